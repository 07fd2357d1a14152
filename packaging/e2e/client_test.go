package e2e_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// reading is what the generated client says of a recording that it downloaded.
type reading struct {
	Station    string
	Start      string // as the API says
	Version    string
	RateHz     float64 `json:"rate_hz"`
	CenterHz   float64 `json:"center_hz"`
	Datetime   time.Time
	Samples    int
	Detections []int   // samples at which they begin
	PeakHz     float64 `json:"peak_hz"`
	Rises      []int   // samples at which the level rises
}

// TestGeneratedClient makes a client of the API's description with openapi-typescript and openapi-fetch, has the compiler check
// it, and has it order an acquisition and download the recordings. It reads them with a SigMF reader of its own, which finds the
// scene's tone at its frequency and at the moment it reached each station.
func TestGeneratedClient(t *testing.T) {
	t.Parallel() // it waits most of the time
	packages, err := servers.ClientPackages()
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t, servers.Postgres(t))
	scene, err := filepath.Abs("client/scene.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stations := map[string]place{"north": {45.1, 7.6, 300}, "south": {44.9, 7.6, 300}}
	for id := range stations {
		n.agent(t, id, "sim:"+scene+"?station="+id, ", plan: [{name: beside, center: 145.5M}]")
	}
	n.waitOnline(len(stations))

	dir := t.TempDir()
	for _, name := range []string{
		"client/package.json", "client/tsconfig.json", "client/client.ts", "client/sigmf.ts", "client/sigmf-core.schema.json",
		"../../protocol/heimdall.sigmf-ext.schema.json",
	} {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), readFile(t, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(packages, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	inDir := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
		}
		return string(out)
	}
	var description json.RawMessage
	if err := n.get("/api/v1/openapi.json", &description); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), description, 0o600); err != nil {
		t.Fatal(err)
	}
	inDir("node_modules/.bin/openapi-typescript", "openapi.json", "--output", "api.ts")
	inDir("node_modules/.bin/tsc", "--project", ".")
	out := inDir("node", "built/client.js", n.api, "145.5e6", "1.2")

	const beaconHz = 145.503e6
	const rise = 100e-6 // seconds in which a simulated burst reaches half its level
	beacon := place{45.05, 7.7, 300}
	heard := make(map[string]bool)
	for line := range strings.Lines(out) {
		var r reading
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		heard[r.Station] = true
		if r.Version != "1.2.5" || math.Abs(r.RateHz-48000) > 1 || r.CenterHz != 145.5e6 || r.Samples != int(math.Round(1.2*r.RateHz)) ||
			r.Start != r.Datetime.Format("2006-01-02T15:04:05.000000000Z") {
			t.Errorf("%+v; want 1.2 s at 48 kHz and 145.5 MHz", r)
		}
		if step := r.RateHz / 4096 / 8; math.Abs(r.PeakHz-beaconHz) > step {
			t.Errorf("%s: the tone is at %.1f Hz, want %.1f within %.1f Hz", r.Station, r.PeakHz, beaconHz, step)
		}
		// Each tone begins at half a second of the clock, and arrives as much later as its way takes.
		delay := beacon.apart(stations[r.Station])/light + rise
		if len(r.Rises) < 2 {
			t.Errorf("%s: the tone begins at samples %v, want it twice or more", r.Station, r.Rises)
		}
		for _, sample := range r.Rises {
			at := r.Datetime.Add(time.Duration(float64(sample) / r.RateHz * 1e9))
			late := float64(at.Sub(at.Truncate(500*time.Millisecond)))/1e9 - delay
			if late < -0.5/r.RateHz || late > 1.5/r.RateHz { // the first loud sample follows the edge
				t.Errorf("%s: a tone begins %.1f µs late by sample %d, of %.1f µs each", r.Station, late*1e6, sample, 1e6/r.RateHz)
			}
		}
		for _, at := range r.Detections { // those that had been reported when the recording was stored
			near := func(rise int) bool { return math.Abs(float64(at-rise)) < 0.005*r.RateHz }
			if at > 0 && !slices.ContainsFunc(r.Rises, near) { // 0: the tone was there before
				t.Errorf("%s: a detection is marked at sample %d, the tones begin at %v", r.Station, at, r.Rises)
			}
		}
	}
	if len(heard) != len(stations) {
		t.Errorf("recordings of %v, want one of each station:\n%s", heard, out)
	}
}
