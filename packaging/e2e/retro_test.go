package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// retroAge is how long after a burst it is captured: 10 s, or what HEIMDALL_RETRO_AGE says.
func retroAge() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("HEIMDALL_RETRO_AGE")); err == nil {
		return d
	}
	return 10 * time.Second
}

const (
	burstHz     = 145.9e6
	burstLength = 200 * time.Millisecond
)

// burstScene is one burst at an instant, which two stations hear and a third is too far away for.
const burstScene = `
seed: 11
epoch: %s
noise: {floor_dbfs_hz: -105}
path: {model: log_distance, exponent: 3, reference_dbfs: 63}
stations:
  near: {position: [45.04, 7.67, 250], clock: {sigma_s: 40e-9, quality: simulated}, rate: 2.4M, format: cu8}
  hill: {position: [45.10, 7.90, 600], clock: {sigma_s: 40e-9, quality: simulated}, rate: 2.4M, format: cu8}
  far: {position: [41.90, 12.50, 20], clock: {sigma_s: 40e-9, quality: simulated}, rate: 2.4M, format: cu8}
emitters:
  - id: beacon
    position: [45.06, 7.70, 240]
    center: 145.5M
    modulation: {kind: tone}
    power_dbm: -20
  - id: burst
    position: [45.06, 7.70, 240]
    center: 145.9M
    modulation: {kind: fsk, deviation_hz: 3k, baud: 4800}
    power_dbm: 30
    schedule: {start: 1h, every: 24h, duration: 200ms}
`

// TestRetroCapture: a burst of 200 ms that a detection reported is recorded long after the history has moved past it, with the
// whole passband of 2.4 MHz, and is in the recording of each station that heard it, where the detection says.
func TestRetroCapture(t *testing.T) {
	n := newNetwork(t, servers.Postgres(t))
	burst := time.Now().Add(15 * time.Second).UTC().Truncate(time.Second)
	scene := writeFile(t, "scene.yaml", fmt.Sprintf(burstScene, burst.Add(-time.Hour).Format(time.RFC3339)))
	for _, id := range []string{"near", "hill", "far"} {
		n.agent(t, id, "sim:"+scene+"?station="+id+"&center=145.5M", ", history: 32MiB")
	}
	n.waitOnline(3)
	detections := make(map[string]string) // by station
	eventually(t, time.Minute, "two stations report the burst", func() error {
		var list struct {
			Items []struct {
				Station, Spool string
				Seq            uint64
				Time           time.Time
			}
		}
		err := n.get(fmt.Sprintf("/api/v1/detections?min_hz=%.0f&max_hz=%.0f", burstHz-10e3, burstHz+10e3), &list)
		for _, d := range list.Items {
			if d.Time.Sub(burst).Abs() < 50*time.Millisecond {
				detections[d.Station] = fmt.Sprintf("%s-%s-%d", d.Station, d.Spool, d.Seq) // of its first record
			}
		}
		if len(detections) < 2 {
			return fmt.Errorf("%v, %w", detections, err)
		}
		return nil
	})
	time.Sleep(time.Until(burst.Add(retroAge())))

	resp, err := http.Post(n.api+"/api/v1/detections/"+detections["near"]+"/capture", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var a protocol.Acquisition
	if err != nil || resp.StatusCode != http.StatusAccepted || json.Unmarshal(text, &a) != nil {
		t.Fatalf("capture of a detection: %s, %v: %s", resp.Status, err, text)
	}
	ordered := time.Now()
	a = n.ended(t, a.ID, time.Minute)
	t.Logf("ordered %v after the burst, ended %v later", ordered.Sub(burst).Round(time.Millisecond), time.Since(ordered).Round(time.Millisecond))
	for _, s := range a.Stations {
		if s.Station == "far" {
			if s.State != protocol.StationRefused || s.ReasonCode != "history_exceeded" {
				t.Errorf("the station that heard nothing is %s, %s: %s", s.State, s.ReasonCode, s.Message)
			}
			continue
		}
		if s.State != protocol.StationDone {
			t.Errorf("station %s is %s: %s", s.Station, s.State, s.Message)
			continue
		}
		start, end, rate := n.burstIn(t, s.Recording)
		if start.Sub(burst).Abs() > 2*time.Millisecond || (end.Sub(start)-burstLength).Abs() > 4*time.Millisecond || math.Abs(rate-2.4e6) > 100 {
			t.Errorf("station %s: the burst is from %v to %v at %.0f Hz, want it from %v for %v at 2.4 MHz",
				s.Station, start.Format(time.RFC3339Nano), end.Format(time.RFC3339Nano), rate, burst.Format(time.RFC3339Nano), burstLength)
		}
	}
}

// burstIn finds the burst in a recording of 8-bit pairs: where the power in a channel at its frequency is above half of the most.
func (n *network) burstIn(t testing.TB, id string) (start, end time.Time, rateHz float64) {
	t.Helper()
	var r protocol.Recording
	if err := n.get("/api/v1/recordings/"+id, &r); err != nil {
		t.Fatal(err)
	}
	began, err := time.Parse(time.RFC3339Nano, r.Start)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(n.api + "/api/v1/recordings/" + id + ".sigmf-data")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || r.Datatype != "cu8" || len(raw) != 2*int(r.Samples) || r.LostSamples != 0 {
		t.Fatalf("recording %s: %d bytes of %s with %d samples lost, %v; want %d samples", id, len(raw), r.Datatype, r.LostSamples, err, r.Samples)
	}
	const window = 240 // samples, 0.1 ms: a channel of some 10 kHz
	turn := 2 * math.Pi * (burstHz - r.CenterHz) / r.SampleRateHz
	var powers []float64
	most := 0.0
	for at := 0; at+window <= int(r.Samples); at += window {
		var re, im float64
		for i := at; i < at+window; i++ {
			sin, cos := math.Sincos(-turn * float64(i))
			x, y := float64(raw[2*i])-127.5, float64(raw[2*i+1])-127.5
			re, im = re+x*cos-y*sin, im+x*sin+y*cos
		}
		powers = append(powers, re*re+im*im)
		most = max(most, re*re+im*im)
	}
	first, last := -1, -1
	for i, p := range powers {
		if p > most/2 {
			if first < 0 {
				first = i
			}
			last = i + 1
		}
	}
	at := func(i int) time.Time {
		return began.Add(time.Duration(float64(i*window) / r.SampleRateHz * 1e9))
	}
	return at(first), at(last), r.SampleRateHz
}
