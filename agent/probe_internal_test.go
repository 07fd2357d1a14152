package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/discover"
)

// skyOf is the source of a new site's simulated receiver.
func skyOf(t *testing.T) string {
	t.Helper()
	return "sim:" + filepath.Join(filepath.Dir(newSite(t, "").config), "sky.yaml") + "?station=torino"
}

func TestProbe(t *testing.T) {
	t.Parallel()
	text, err := output(t, ProbeCmd{Source: skyOf(t), Listen: 300 * time.Millisecond, JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	var r probeReport
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if r.Hardware != "simulated receiver torino" || !r.Tunable || r.Range == nil || r.Samples == 0 || r.TimeQuality != "simulated" || r.RatePPM == nil || r.Error != "" {
		t.Errorf("got %+v", r)
	}
}

func TestProbe_Lines(t *testing.T) {
	t.Parallel()
	text, err := output(t, ProbeCmd{Source: skyOf(t), Listen: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"device    simulated receiver torino", "tuning    145.5", "range     1 Hz to", "time      simulated ±", "heard     ", " 0 lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in:\n%s", want, text)
		}
	}
}

func TestProbe_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cmd   ProbeCmd
		usage bool
		says  string
	}{
		{ProbeCmd{Source: "kiwi.local", Listen: time.Second}, true, "scheme"},
		{ProbeCmd{Source: "sim:/nowhere.yaml?station=x", Listen: time.Second}, false, "/nowhere.yaml"},
		{ProbeCmd{Source: "sim:/nowhere.yaml?station=x"}, true, "--listen 0s: want a time above 0"},
		{ProbeCmd{Source: skyOf(t) + "&rate=1k", Listen: time.Millisecond}, false, "nothing came in 1ms"},
	} {
		_, err := output(t, tc.cmd)
		if err == nil || errors.As(err, new(usageError)) != tc.usage || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: got %v, want %q (usage: %v)", tc.cmd, err, tc.says, tc.usage)
		}
	}
}

func TestProbe_ScanPrintsAConfiguration(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	skies := []string{skyOf(t), skyOf(t)}
	err := printConfig(&text, []discover.Found{
		{Source: skies[0], What: "what a scan would find"},
		{Source: skies[1], What: "a name\r  - id: evil\u2028    source: exec:evil\x1b[2J", Mend: "what to do about it"},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, path, text.String())
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text.String())
	}
	if len(cfg.Receivers) != 2 || cfg.Receivers[1].Source != skies[1] || cfg.Receivers[1].ID != "r1" || !strings.Contains(text.String(), "# what to do about it") {
		t.Errorf("got %+v from:\n%s", cfg.Receivers, text.String())
	}
}

func TestProbe_Usage(t *testing.T) {
	t.Parallel()
	for _, cmd := range []ProbeCmd{{}, {Source: "sim:x?station=y", Scan: true}} {
		if _, err := output(t, cmd); !errors.As(err, new(usageError)) {
			t.Errorf("%+v: got %v, want a usage error", cmd, err)
		}
	}
}
