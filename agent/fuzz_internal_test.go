package main

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/configs"
)

// FuzzConfig reads any text as a configuration: it is refused in words, or all that the agent relies on holds.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"agent.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "configs", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("station: {id: torino}\nreceivers:\n  - {id: r0, source: 'sim:scene.yaml?station=torino', gain: nan, plan: [{center: 145.5M, dwell: 2s}]}\n"))
	f.Add([]byte("control: {allow: [capture], hours: '22:00-06:00', bands: [144M-146M]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg := DefaultConfig()
		if err := configs.Decode("agent.yaml", text, &cfg); err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without words")
			}
			return
		}
		for i := range cfg.Receivers {
			cfg.Receivers[i].setDefaults()
			for _, s := range cfg.Receivers[i].Plan {
				if hz := float64(s.Center); math.IsNaN(hz) || math.IsInf(hz, 0) {
					t.Errorf("a step at %v Hz", hz)
				}
			}
			if gain := cfg.Receivers[i].Gain; gain != "" && gain != "auto" {
				if db, err := parseGain(gain); err != nil || math.IsNaN(db) || math.IsInf(db, 0) {
					t.Errorf("a gain of %v dB passed: %v", db, err)
				}
			}
		}
	})
}

// FuzzRules reads any text as a band, as hours and as a gain.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"144M-146M", "1-1", "-5-5", "08:00-22:30", "24:00-00:00", "23:59-99:99", "12.5dB", "nan", "inf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b Band
		if b.UnmarshalText([]byte(s)) == nil && !(b.LowHz <= b.HighHz && b.contains(b.LowHz, b.HighHz) && b.overlaps(b.LowHz, b.LowHz)) {
			t.Errorf("%q became the band %v", s, b)
		}
		if h, err := parseHours(s); err == nil && (min(h.from, h.to) < 0 || max(h.from, h.to) > 24*60) {
			t.Errorf("%q became the hours %v", s, h)
		}
		if db, err := parseGain(s); err == nil && (math.IsNaN(db) || math.IsInf(db, 0)) {
			t.Errorf("%q became a gain of %v dB", s, db)
		}
	})
}

// FuzzControlAnswers reads any bytes as what a running agent may answer on its control socket.
func FuzzControlAnswers(f *testing.F) {
	f.Add([]byte(`{"receiver":"r0","snr_db":12.5}` + "\n" + `{"receiver":"r1"}`))
	f.Add([]byte(`{"station":"torino","state":{},"spool":{"records":-1}}`))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, body []byte) {
		lines := 0
		_ = readTap(context.Background(), strings.NewReader(string(body)), func(tapLine) error {
			lines++
			return nil
		})
		if lines > len(body) {
			t.Errorf("%d lines from %d bytes", lines, len(body))
		}
		var s status
		if json.Unmarshal(body, &s) != nil {
			return
		}
		text, err := json.Marshal(s)
		var again status
		if err != nil || json.Unmarshal(text, &again) != nil {
			t.Fatalf("the status %q cannot be written again: %v", body, err)
		}
	})
}
