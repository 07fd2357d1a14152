package radio_test

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

func TestFile_Conformance(t *testing.T) {
	frames := kiwiFrames(60, 124934.5, 12001.135)
	lossy := append(append([]kiwiFrame(nil), frames[:20]...), frames[23:]...) // three frames of 512 samples are missing
	radiotest.Conformance(t, radiotest.Driver{
		New: func(t *testing.T) radio.Receiver {
			return newFile(t, write(t, "20171127T104156Z_77500_TEST_iq.wav", kiwiWAV(12001, frames)), "")
		},
		Blocked: func(t *testing.T) radio.Receiver {
			future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			return newFile(t, write(t, "x_433M_250k.cu8", make([]byte, 5000)), "time=2020-01-01T00:00:00Z&anchor=2020-01-01T00:00:00Z@"+future)
		},
		Losing: func(t *testing.T) radio.Receiver {
			return newFile(t, write(t, "20171127T104156Z_77500_TEST_iq.wav", kiwiWAV(12001, lossy)), "")
		},
		Lost:   3 * 512,
		Tuning: radio.Tuning{CenterHz: 7e6},
		Blocks: 100,
	})
}

const testScene = `
seed: 3
noise: {floor_dbfs_hz: -90}
path: {model: free_space, reference_dbfs: 60}
stations:
  aa: {position: [45, 7, 200], rate: 240k, format: cs16, clock: {sigma_s: 40e-9}}
  bb: {position: [45.5, 8], rate: 240k, format: cu8, clock: {ppm: 3, offset_s: 0.001}}
emitters:
  - {id: fm, position: [45.2, 7.5], center: 145.5M, modulation: {kind: fm, deviation_hz: 2500}, power_dbm: 30}
`

func TestSim_Conformance(t *testing.T) {
	path := write(t, "scene.yaml", []byte(testScene))
	for _, pace := range []string{"fast", "real"} {
		t.Run(pace, func(t *testing.T) {
			d := radiotest.Driver{
				New:     func(t *testing.T) radio.Receiver { return newSource(t, "sim:"+path+"?station=aa&pace="+pace) },
				Blocked: func(t *testing.T) radio.Receiver { return newSource(t, "sim:"+path+"?station=aa&rate=1k&buffer=1h") },
				Tuning:  radio.Tuning{CenterHz: 146e6, SampleRateHz: 480e3},
				Blocks:  6,
			}
			radiotest.Conformance(t, d)
		})
	}
}
