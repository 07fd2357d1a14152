package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/configs"
)

// FuzzConfig reads any text as a configuration: it is refused in words, or what it says of ages and sizes makes sense.
func FuzzConfig(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("..", "configs", "collector.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("mqtt: {url: 'mqtt://h', shared_group: a}\nretention: {measurement: forever, gap: 1y}\n"))
	f.Add([]byte("http: {listen: '[::1]:0'}\nlimits: {station_rate: .nan, station_bytes: 1kB}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg := DefaultConfig()
		if err := configs.Decode("collector.yaml", text, &cfg); err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without words")
			}
			return
		}
		for kind, age := range cfg.Retention.keep().Records {
			if age < 0 {
				t.Errorf("%s records are kept for %v", kind, age)
			}
		}
		if cfg.Limits.StationBytes < 0 || !(cfg.Limits.StationRate >= 0) {
			t.Errorf("limits of %v records and %v a second", cfg.Limits.StationRate, cfg.Limits.StationBytes)
		}
	})
}

// FuzzAge reads any text as how long to keep something: never a negative time, and 0 only for ever.
func FuzzAge(f *testing.F) {
	for _, s := range []string{"forever", "30d", "0", "-1s", "1e-12", "9e18ns", "292y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var a Age
		if err := a.UnmarshalText([]byte(s)); err == nil && (a < 0 || (a == 0) != (s == "forever")) {
			t.Errorf("%q became %v", s, a)
		}
	})
}
