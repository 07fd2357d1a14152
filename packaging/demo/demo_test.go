package demo_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/packaging/demo"
)

func TestStations_AreThoseOfTheScene(t *testing.T) {
	scene, err := radio.DecodeScene("scene.yaml", demo.Scene())
	if err != nil {
		t.Fatal(err)
	}
	var got []demo.Station
	for _, s := range demo.Stations() {
		in := scene.Stations[s.ID]
		if in == nil {
			t.Fatalf("station %s is not in the scene", s.ID)
		}
		got = append(got, demo.Station{ID: s.ID, Name: in.Name, LatitudeDeg: in.Position[0], LongitudeDeg: in.Position[1], HeightM: in.Position[2]})
	}
	if diff := cmp.Diff(got, demo.Stations()); diff != "" {
		t.Errorf("the scene (-) and Stations (+) differ:\n%s", diff)
	}
	if got, want := len(scene.Stations), len(demo.Stations()); got != want {
		t.Errorf("the scene has %d stations, Stations lists %d", got, want)
	}
}

// TestScene_EveryStationHearsTheTransmitter: 10 to 40 dB over the noise of 12.5 kHz, without clipping.
func TestScene_EveryStationHearsTheTransmitter(t *testing.T) {
	for _, s := range demo.Stations() {
		r, err := radio.Open("sim:scene.yaml?pace=fast&start=2026-01-01T00:00:03Z&station="+s.ID, radio.Options{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := r.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.Tuning.CenterHz != 145.5e6 || info.Tuning.SampleRateHz != 240e3 {
			t.Errorf("%s: tuned to %+v, want 145.5 MHz at 240 ksps", s.ID, info.Tuning)
		}
		sum, n, clipped := 0.0, 0, 0
		for range 20 {
			var b radio.Block
			if err := r.Read(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			for _, c := range b.Raw {
				v := (float64(c) - 127.5) / 127.5
				sum += v * v
				if c == 0 || c == 255 {
					clipped++
				}
			}
			n += b.Samples()
		}
		// The scene's noise and that of 8 bits, over the whole passband and over 12.5 kHz.
		density := math.Pow(10, -9.5) + 2.0/12/127.5/127.5/240e3
		snr := 10 * math.Log10((sum/float64(n)-density*240e3)/(density*12500))
		if !(snr >= 10 && snr <= 40) || clipped > 0 {
			t.Errorf("%s: SNR %.1f dB with %d codes clipped, want 10 to 40 and none", s.ID, snr, clipped)
		}
		t.Logf("%-10s %.1f dB", s.ID, snr)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeed(t *testing.T) {
	if line := fmt.Sprintf("\nseed: %d\n", demo.Seed); !bytes.Contains(demo.Scene(), []byte(line)) {
		t.Errorf("no %q in the scene", line)
	}
}
