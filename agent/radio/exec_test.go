//go:build unix

package radio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// runs makes a receiver of a program that writes cs16.
func runs(p radiotest.Program, query string) func(t *testing.T) radio.Receiver {
	return func(t *testing.T) radio.Receiver {
		return newSource(t, "exec:"+p.Command()+"?format=cs16&center=7.1M&rate="+strconv.FormatFloat(max(p.RateHz, 100e3), 'f', -1, 64)+query)
	}
}

func TestExec_Conformance(t *testing.T) {
	radiotest.Conformance(t, radiotest.Driver{
		New:     runs(radiotest.Program{RateHz: 100e3}, ""),
		Blocked: runs(radiotest.Program{RateHz: 100e3, Stall: 1}, "&stall=1h"),
		Losing: runs(radiotest.Program{
			RateHz: 100e3, LoseAt: 20000, Lose: 3000, SayLost: "overrun!!! (at least 30.000 ms long)\n",
		}, ""),
		Lost:   3000,
		Tuning: radio.Tuning{CenterHz: 8e6},
		Blocks: 10,
	})
}

// A preset's program can be tuned: it is started again.
func TestExec_PresetConformance(t *testing.T) {
	preset := func(p radiotest.Program) func(t *testing.T) radio.Receiver {
		p.Width = 2
		return func(t *testing.T) radio.Receiver {
			return newSource(t, "exec:"+p.Command()+"?preset=rtl_sdr&center=433.92M&rate=250k&gain=20")
		}
	}
	radiotest.Conformance(t, radiotest.Driver{
		New: preset(radiotest.Program{RateHz: 250e3}),
		Losing: preset(radiotest.Program{
			RateHz: 250e3, LoseAt: 50000, Lose: 1234, SayLost: "lost 1234 samples\n",
		}),
		Lost:   1234,
		Tuning: radio.Tuning{CenterHz: 868.3e6},
		Blocks: 12,
	})
}

// readUntilError reads until there is no more.
func readUntilError(t *testing.T, r radio.Receiver, each func(*radio.Block)) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var b radio.Block
	for {
		if err := r.Read(ctx, &b); err != nil {
			return err
		}
		each(&b)
	}
}

func mustOpen(t *testing.T, r radio.Receiver) radio.Info {
	t.Helper()
	info, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return info
}

func TestExec_Ends(t *testing.T) {
	for _, tc := range []struct {
		name    string
		program radiotest.Program
		query   string
		want    string
		samples uint64
		lost    map[string]uint64
	}{
		{"in order", radiotest.Program{RateHz: 1e5, Samples: 5000}, "", "exit status 0", 5000, nil},
		{"with a reason", radiotest.Program{RateHz: 1e5, Samples: 5000, Exit: 1, Say: "Found 1 device\nusb_claim_interface error -6\nbye\n"}, "", "exit status 1: usb_claim_interface error -6", 5000, nil},
		{"inside a sample", radiotest.Program{RateHz: 1e5, Samples: 5000, Odd: 3}, "", "exit status 0", 5000, map[string]uint64{"odd_tail": 1}},
		{"closes its output and lives on", radiotest.Program{RateHz: 1e5, CloseAt: 5000, IgnoreTERM: true}, "", "signal: killed", 5000, nil},
		{"falls silent", radiotest.Program{RateHz: 1e5, Stall: 5000}, "&stall=2s", "no samples for", 5000, nil},
		{"too fast", radiotest.Program{}, "", "too many for 100 kHz", math.MaxUint64, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := runs(tc.program, tc.query)(t)
			mustOpen(t, r)
			samples := uint64(0)
			err := readUntilError(t, r, func(b *radio.Block) { samples += uint64(b.Samples()) })
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
			if tc.samples != math.MaxUint64 && samples != tc.samples {
				t.Errorf("%d samples, want %d", samples, tc.samples)
			}
			for reason, n := range tc.lost {
				if got := r.Health().Lost[reason]; got != n {
					t.Errorf("%d samples lost as %s, want %d", got, reason, n)
				}
			}
			if h := r.Health(); h.Connected || h.Err == nil {
				t.Errorf("health says connected %v, %v", h.Connected, h.Err)
			}
		})
	}
}

// A program that ends a moment after its output has ended tells its own reason, without passwords.
func TestExec_EndsByItself(t *testing.T) {
	r := newSource(t, `exec:sh -c 'exec >&-; sleep 0.05; echo "cannot open http://me:hunter2@host/" >&2; exit 3'?format=cu8&rate=100k&center=1M`)
	defer r.Close()
	mustOpen(t, r)
	err := readUntilError(t, r, func(*radio.Block) {})
	if !strings.Contains(err.Error(), "exit status 3: cannot open http://***@host/") {
		t.Errorf("got %v", err)
	}
}

// A program that explains itself gives no samples: one without a device is not taken for one that had come.
func TestExec_Usage(t *testing.T) {
	usage := write(t, "usage", []byte("Usage:\n\t-h # this help\n\t[-d serial_number]\n"))
	r := runs(radiotest.Program{RateHz: 1e5, File: usage, Exit: 1, Say: "hackrf_open() failed: HackRF not found (-5)\n"}, "")(t)
	mustOpen(t, r)
	samples := 0
	err := readUntilError(t, r, func(b *radio.Block) { samples += b.Samples() })
	if samples > 0 || !strings.Contains(err.Error(), "HackRF not found") {
		t.Errorf("%d samples, then %v", samples, err)
	}
}

func TestExec_NotThere(t *testing.T) {
	text := write(t, "text", []byte("no program"))
	for source, want := range map[string]string{
		"exec:?preset=airspy_rx&center=100M&rate=2.5M":           "sudo apt install airspy",
		"exec:/nowhere/rtl_sdr?preset=rtl_sdr&center=1M&rate=1M": "sudo apt install rtl-sdr",
		"exec:nowhere-at-all?format=cu8&center=1M&rate=1M":       "install it, or write its path",
		"exec:" + text + "?format=cu8&center=1M&rate=1M":         "may not run it",
	} {
		t.Run(source, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			r := newSource(t, source)
			_, err := r.Open(t.Context())
			if faults := radio.Faults(err); len(faults) != 1 || faults[0].Field != "command" || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a fault of the command that says %q", err, want)
			}
			r.Close()
		})
	}
}

// Neither a program that does not want to end nor what it has started outlives its receiver.
func TestExec_CloseLeavesNothing(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	r := runs(radiotest.Program{RateHz: 1e5, IgnoreTERM: true, Fork: true, Pids: pids}, "")(t)
	mustOpen(t, r)
	var b radio.Block
	if err := r.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Close took %s", took)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Fields(string(text))
	if len(all) != 2 {
		t.Fatalf("pids %q, want two", text)
	}
	for _, word := range all {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Second); syscall.Kill(pid, 0) == nil && !zombie(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", pid)
			}
		}
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// A receiver whose reader is away never holds the program up: what it writes goes on, and the oldest is dropped.
func TestExec_SlowReader(t *testing.T) {
	r := runs(radiotest.Program{RateHz: 1e6}, "&buffer=200ms")(t)
	mustOpen(t, r)
	var b radio.Block
	if err := r.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // the reader is away
	next := b.Index + uint64(b.Samples())
	if err := r.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if b.LostBefore < 5e5 || b.Index != next+b.LostBefore {
		t.Errorf("after 1.5 s away: %d lost before %d", b.LostBefore, b.Index)
	}
	if got := binary.LittleEndian.Uint32(b.Raw); uint64(got) != b.Index {
		t.Errorf("the sample at %d is number %d", b.Index, got)
	}
	if h := r.Health(); h.Lost["overrun"] != b.LostBefore || len(h.Lost) != 1 {
		t.Errorf("health says %v lost, the block %d", h.Lost, b.LostBefore)
	}
}

// Samples that are lost where nobody says so are found by the clock.
func TestExec_SilentLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the clock 8 s")
	}
	t.Parallel()
	r := runs(radiotest.Program{RateHz: 1e5, LoseAt: 4e5, Lose: 5000, Samples: 75e4}, "")(t)
	mustOpen(t, r)
	lost, segments := uint64(0), uint32(0)
	err := readUntilError(t, r, func(b *radio.Block) {
		lost += b.LostBefore
		segments = b.Segment
	})
	if lost < 4000 || lost > 6000 || segments == 0 {
		t.Errorf("%d samples found missing of 5000, segment %d (%v)", lost, segments, err)
	}
}

// What was said without a size begins a segment.
func TestExec_UnsizedLoss(t *testing.T) {
	r := runs(radiotest.Program{RateHz: 1e5, LoseAt: 5000, Lose: 10, SayLost: "O", Samples: 10000}, "")(t)
	mustOpen(t, r)
	segments := uint32(0)
	_ = readUntilError(t, r, func(b *radio.Block) { segments = b.Segment })
	if segments != 1 {
		t.Errorf("the last segment is %d, want 1", segments)
	}
}

// Garbage from a program harms nobody: whatever it says, its samples are samples.
func TestExec_Garbage(t *testing.T) {
	for name, p := range map[string]radiotest.Program{
		"noise":              {RateHz: 1e5, Garbage: true},
		"one byte at a time": {RateHz: 1e5, OneByte: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runs(p, "&stall=2s")(t)
			mustOpen(t, r)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var b radio.Block
			for {
				err := r.Read(ctx, &b)
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "exec:") {
						t.Error(err)
					}
					break
				}
				if len(b.Raw)%4 != 0 {
					t.Errorf("a block of %d bytes", len(b.Raw))
				}
			}
			began := time.Now()
			r.Close()
			if took := time.Since(began); took > time.Second {
				t.Errorf("Close took %s", took)
			}
		})
	}
}

func TestExec_URLFaults(t *testing.T) {
	for query, fields := range map[string]string{
		"exec:":  "format center rate command",
		"exec:x": "format center rate",
		"exec:a | b?format=cu8&center=1M&rate=1M":                                       "command",
		"exec:x?format=cu8&center=1M&rate=1M&buffer=61s":                                "buffer",
		"exec:x?format=cu9&center=y&rate=0":                                             "format center rate",
		"exec:x?format=cu8&center=1M&rate=1M&gain=3&device=a&ppm=1&options=-T":          "device ppm options gain",
		"exec:?preset=rtl_sdr&center=100M&rate=500k":                                    "rate",
		"exec:?preset=rtl_sdr&center=100M&rate=1M&format=cs16&gain=99&ppm=.5":           "ppm gain format",
		"exec:?preset=airspy_rx&center=10M&rate=3M&ppm=2":                               "ppm center",
		"exec:?preset=websdr-alsa&center=7.1M&rate=192k&gain=3":                         "device gain",
		"exec:?preset=nothing&center=7.1M&rate=192k&gain=3&format=cu8":                  "preset command",
		"exec:x?format=cu8&center=1M&rate=1M&swap_iq=yes&dc=no&stall=0s&buffer=x&zzz=1": "swap_iq dc buffer stall zzz",
	} {
		_, err := radio.Open(query, radio.Options{})
		var got []string
		for _, f := range radio.Faults(err) {
			got = append(got, f.Field)
			if f.Mend == "" {
				t.Errorf("%s: %v names no mend", query, f)
			}
		}
		if strings.Join(got, " ") != fields {
			t.Errorf("%s: faults of %q, want %q: %v", query, got, fields, err)
		}
	}
}
