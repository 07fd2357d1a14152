//go:build unix

package radio_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

// heard is a detection and when it began, in seconds from the first sample.
type heard struct {
	*protocol.Detection
	startS float64
}

// detections reads a receiver to its end through the survey's own analyzer.
func detections(t *testing.T, r radio.Receiver) []heard {
	t.Helper()
	info := mustOpen(t, r)
	a, err := survey.NewAnalyzer(survey.Config{MaskDC: info.MaskDC, Detect: survey.Detect{ReportEvery: -1}})
	if err != nil {
		t.Fatal(err)
	}
	var all []heard
	keep := func(found []survey.Emission) {
		for _, e := range found {
			if d := e.Record.GetDetection(); d != nil {
				all = append(all, heard{d, e.StartS})
			}
		}
	}
	_ = readUntilError(t, r, func(b *radio.Block) {
		if b.LostBefore > 0 || b.Segment > 0 {
			t.Errorf("%d samples are lost before %d, segment %d", b.LostBefore, b.Index, b.Segment)
		}
		keep(a.Write(b))
	})
	keep(a.Flush())
	return all
}

// soundCard writes a recording as a sound card would give it: half as loud in 16 bits, Q left and I right, and with a DC offset
// of -36 dBFS, which is much for one.
func soundCard(t *testing.T, recording string) string {
	t.Helper()
	raw, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 0, 2*len(raw))
	const offset = 500
	for i := 0; i+1 < len(raw); i += 2 {
		for _, v := range []byte{raw[i+1], raw[i]} {
			out = binary.LittleEndian.AppendUint16(out, uint16(int16(math.Round((float64(v)-127.5)*128))+offset))
		}
	}
	path := filepath.Join(t.TempDir(), "sound.raw")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// realRecording is one of the real recordings, which are not part of the project.
func realRecording(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("HEIMDALL_REALDATA")
	if folder == "" {
		return realdata(t, name)
	}
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Skipf("the recording %s is not here", path)
	}
	return path
}

// A recording that comes through a pipe as a sound card gives it, with I and Q swapped and a spike at 0 Hz, gives the same
// detections as the file.
func TestExec_RealRecordingAsFromASoundCard(t *testing.T) {
	for name, count := range map[string]int{"sensibleliving_g001_433.92M_250k.cu8": 1, "skylink_g001_433.92M_250k.cu8": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := realRecording(t, name)
			want := detections(t, newSource(t, radio.FileSource(path)))
			if len(want) != count {
				t.Fatalf("%d detections in the file, want %d", len(want), count)
			}
			card := radiotest.Program{RateHz: 250e3, File: soundCard(t, path)}
			source := "exec:" + card.Command() + "?format=cs16&rate=250k&center=433.92M&swap_iq=true"
			got := detections(t, newSource(t, source+"&dc=mask"))
			if len(got) != len(want) {
				t.Fatalf("%d detections through the pipe, %d in the file", len(got), len(want))
			}
			for i, g := range got {
				w := want[i]
				near := func(what string, got, want, within float64) {
					if math.Abs(got-want) > within {
						t.Errorf("detection %d: %s %g, in the file %g", i, what, got, want)
					}
				}
				near("start s", g.startS, w.startS, 1e-3)
				near("duration s", g.GetDurationS(), w.GetDurationS(), 1e-3)
				near("centre Hz", g.GetCenterHz(), w.GetCenterHz(), 100)
				near("bandwidth Hz", g.GetBandwidthHz(), w.GetBandwidthHz(), 0.05*w.GetBandwidthHz()+100)
				near("SNR dB", float64(g.GetSnrDb()), float64(w.GetSnrDb()), 0.3)
				near("power dBFS", float64(g.GetPowerDbfs()), float64(w.GetPowerDbfs())-20*math.Log10(2), 0.3)
			}
			// The spike is a spike: the burst across 0 Hz is measured wrong with it.
			kept := detections(t, newSource(t, source+"&dc=keep"))
			if count == 1 && (len(kept) != 1 || math.Abs(float64(kept[0].GetSnrDb()-want[0].GetSnrDb())) < 1) {
				t.Errorf("with dc=keep the detections are %v: the spike makes no difference", kept)
			}
		})
	}
}
