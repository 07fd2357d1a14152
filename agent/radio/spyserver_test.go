package radio_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/protocol"
)

func TestSpyserver_Conformance(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, parameters string
		setup            radiotest.SpySetup
	}{
		{"healthy", "?rate=96k", radiotest.SpySetup{}},
		{"without state", "?rate=96k&center=5M", radiotest.SpySetup{NoSync: true, Device: 3, Forced: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			source := func(setup radiotest.SpySetup) func(t *testing.T) radio.Receiver {
				return func(t *testing.T) radio.Receiver {
					return newSource(t, radiotest.NewSpyServer(t, setup).URL(tc.parameters))
				}
			}
			losing, silent := tc.setup, tc.setup
			losing.Lose = func(n uint32) bool { return n == 12 || n == 13 }
			silent.Silent = true
			radiotest.Conformance(t, radiotest.Driver{
				New:     source(tc.setup),
				Losing:  source(losing),
				Lost:    2 * 1920,
				Blocked: source(silent),
				Tuning:  radio.Tuning{CenterHz: 14.1e6},
				Blocks:  60,
			})
		})
	}
}

// spied reads blocks for a while and checks that each sample is the one that its index says, while losses are exact and the
// rate stays.
func spied(t *testing.T, r radio.Receiver, listen time.Duration, s24 bool) (blocks []radio.Block) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), listen)
	defer cancel()
	var origin uint32
	for {
		var b radio.Block
		if err := r.Read(ctx, &b); err != nil {
			if ctx.Err() == nil {
				t.Fatalf("Read of block %d: %v", len(blocks), err)
			}
			return blocks
		}
		per := b.Format.BytesPerSample()
		for i := range b.Samples() {
			n, bits := radiotest.SpyCount(b.Raw[i*per:(i+1)*per], s24)
			if len(blocks) == 0 && i == 0 {
				origin = n - uint32(b.Index)
			}
			if want := (origin + uint32(b.Index) + uint32(i)) << (32 - bits); n<<(32-bits) != want {
				t.Fatalf("sample %d of the block at %d is number %d, want %d", i, b.Index, n, want>>(32-bits))
			}
		}
		blocks = append(blocks, b)
	}
}

func TestSpyserver_Formats(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ask    string
		forced uint32
		want   string
	}{
		{"", 0, "cs16"},
		{"&format=u8", 0, "cu8"},
		{"&format=s24", 0, "cf32"},
		{"&format=f32", 0, "cf32"},
		{"&format=f32", 1, "cu8"},
		{"", 3, "cf32"},
	} {
		t.Run(tc.ask+tc.want, func(t *testing.T) {
			t.Parallel()
			server := radiotest.NewSpyServer(t, radiotest.SpySetup{Forced: tc.forced})
			r := newSource(t, server.URL("?rate=48k"+tc.ask))
			if info := start(t, r); info.Format.String() != tc.want {
				t.Errorf("format is %v, want %s", info.Format, tc.want)
			}
			if n := len(spied(t, r, 500*time.Millisecond, tc.ask == "&format=s24" || tc.forced == 3)); n < 4 {
				t.Errorf("%d blocks", n)
			}
		})
	}
}

func TestSpyserver_Info(t *testing.T) {
	t.Parallel()
	server := radiotest.NewSpyServer(t, radiotest.SpySetup{LeastDecimation: 2})
	r := newSource(t, server.URL("?center=10M&rate=96k&gain=7"))
	info := start(t, r)
	want := radio.Info{
		Source: server.URL("?center=10M&rate=96k&gain=7"), Hardware: "SpyServer, Airspy HF+ DD52A1B3",
		Tuning: radio.Tuning{CenterHz: 10e6, SampleRateHz: 96000, GainDB: 9},
		Range:  radio.Range{LowHz: 9000, HighHz: 260e6, LowRateHz: 12000, HighRateHz: 192000},
	}
	if info.Source != want.Source || info.Hardware != want.Hardware || info.Tuning != want.Tuning || !info.Tunable || !info.Live {
		t.Errorf("Info is %+v", info)
	}
	want.Range.Settling = info.Range.Settling
	if info.Range != want.Range || info.TimeQuality != protocol.TimeQuality_TIME_QUALITY_ARRIVAL {
		t.Errorf("range is %+v, want %+v", info.Range, want.Range)
	}
	b := spied(t, r, 300*time.Millisecond, false)[0]
	if off := time.Since(b.Time); off > time.Second || b.TimeUncertainty < 300*time.Millisecond || b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_ARRIVAL {
		t.Errorf("the first block is %v old, ±%v, %v", off, b.TimeUncertainty, b.TimeQuality)
	}
}

// TestSpyserver_Loss has messages thrown away, around the wrap of their numbers: exact where they are of one size, else estimated.
func TestSpyserver_Loss(t *testing.T) {
	t.Parallel()
	for name, samples := range map[string]func(uint32) int{
		"one size":   func(uint32) int { return 1000 },
		"many sizes": func(n uint32) int { return 900 + int(n%3)*100 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := radiotest.NewSpyServer(t, radiotest.SpySetup{
				FirstSeq: 1<<32 - 40, Samples: samples, Lose: func(n uint32) bool { return n%31 == 3 || n%31 == 4 },
			})
			r := newSource(t, server.URL("?rate=96k"))
			start(t, r)
			exact := name == "one size"
			lost, end := uint64(0), uint64(0)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if exact {
				for _, b := range spied(t, r, 2*time.Second, false) {
					lost, end = lost+b.LostBefore, b.Index+uint64(b.Samples())
					if b.Segment != 0 || !b.LostExact {
						t.Errorf("block at %d: segment %d, exact %v", b.Index, b.Segment, b.LostExact)
					}
				}
			} else {
				for b, before := (radio.Block{}), uint32(0); r.Read(ctx, &b) == nil; before = b.Segment {
					lost, end = lost+b.LostBefore, b.Index+uint64(b.Samples())
					if b.LostBefore > 0 && (b.LostExact || b.Segment != before+1) {
						t.Errorf("block at %d: lost %d, exact %v, segment %d", b.Index, b.LostBefore, b.LostExact, b.Segment)
					}
				}
			}
			// Two messages of 31 are thrown away, of which the last two may not be known yet; health may be ahead of the reader.
			want := float64(end) * 2 / 31
			if got := r.Health().Lost["network"]; lost == 0 || got < lost || math.Abs(float64(lost)-want) > 2200 {
				t.Errorf("blocks declare %d lost, health %d, want %.0f of %d samples", lost, got, want, end)
			}
		})
	}
}

// TestSpyserver_Others has another client tune the receiver, and change its gains.
func TestSpyserver_Others(t *testing.T) {
	t.Parallel()
	server := radiotest.NewSpyServer(t, radiotest.SpySetup{})
	r := newSource(t, server.URL("?rate=96k"))
	start(t, r)
	spied(t, r, 200*time.Millisecond, false)
	for i, tc := range []struct {
		change func()
		want   radio.Tuning
		flags  radio.Flags
	}{
		{func() { server.Retune(3_600_000) }, radio.Tuning{CenterHz: 3.6e6, GainDB: 9}, radio.Settling},
		{func() { server.Gain(8) }, radio.Tuning{CenterHz: 3.6e6, GainDB: 9}, radio.Settling},
		{func() { server.DigitalGain(21) }, radio.Tuning{CenterHz: 3.6e6, GainDB: 21}, 0},
	} {
		tc.change()
		blocks := spied(t, r, 500*time.Millisecond, false)
		first := slices.IndexFunc(blocks, func(b radio.Block) bool { return int(b.Segment) == i+1 })
		if first < 0 {
			t.Fatalf("change %d began no segment", i)
		}
		if b := blocks[first]; b.Tuning.CenterHz != tc.want.CenterHz || b.Tuning.GainDB != tc.want.GainDB || b.Flags != tc.flags || b.LostBefore != 0 {
			t.Errorf("change %d: %+v, flags %v, lost %d", i, b.Tuning, b.Flags, b.LostBefore)
		}
	}
}

func TestSpyserver_Rate(t *testing.T) {
	t.Parallel()
	server := radiotest.NewSpyServer(t, radiotest.SpySetup{})
	r := newSource(t, server.URL("?rate=96k"))
	start(t, r)
	spied(t, r, 200*time.Millisecond, false)
	if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 5e6, SampleRateHz: 150e3}); err != nil {
		t.Fatal(err)
	}
	var b radio.Block
	for b.Segment == 0 {
		if err := r.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if want := (radio.Tuning{CenterHz: 5e6, SampleRateHz: 192000, GainDB: 9}); b.Tuning.SampleRateHz != want.SampleRateHz || b.Tuning.CenterHz != want.CenterHz ||
		b.Flags != radio.Settling || b.LostBefore == 0 || b.LostExact {
		t.Errorf("first block at the new rate: %+v, flags %v, lost %d", b.Tuning, b.Flags, b.LostBefore)
	}
	for _, b := range spied(t, r, 500*time.Millisecond, false) {
		if b.LostBefore > 0 || time.Since(b.Time).Abs() > 2*time.Second {
			t.Errorf("block at %d: lost %d, time %v", b.Index, b.LostBefore, b.Time)
		}
	}
}

// TestSpyserver_NoControl goes only where the receiver is tuned.
func TestSpyserver_NoControl(t *testing.T) {
	t.Parallel()
	server := radiotest.NewSpyServer(t, radiotest.SpySetup{NoControl: true})
	r := newSource(t, server.URL("?rate=96k"))
	info := start(t, r)
	if info.Range.LowHz != 7.1e6-384e3 || info.Range.HighHz != 7.1e6+384e3 || len(info.Notes) != 1 {
		t.Errorf("range %+v, notes %q", info.Range, info.Notes)
	}
	if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 14e6}); len(radio.Faults(err)) != 1 {
		t.Errorf("Tune beyond: %v", err)
	}
	if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 7.2e6}); err != nil {
		t.Errorf("Tune inside: %v", err)
	}
	blocks := spied(t, r, 500*time.Millisecond, false)
	if b := blocks[len(blocks)-1]; b.Tuning.CenterHz != 7.2e6 || b.Segment != 1 {
		t.Errorf("segment %d at %v", b.Segment, b.Tuning)
	}
	server.Retune(20e6)
	spied(t, r, 300*time.Millisecond, false)
	if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 7.2e6}); len(radio.Faults(err)) != 1 || !strings.Contains(err.Error(), "controls") {
		t.Errorf("Tune to where the receiver was: %v", err)
	}
	refused := newSource(t, server.URL("?center=1M"))
	defer refused.Close()
	if _, err := refused.Open(t.Context()); len(radio.Faults(err)) != 1 || !strings.Contains(err.Error(), "does not control") {
		t.Errorf("opened beyond: %v", err)
	}
}

// TestSpyserver_Refused has servers that are none, or that say no.
func TestSpyserver_Refused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		setup      radiotest.SpySetup
		parameters string
		want       string
		reason     string
	}{
		{"full", radiotest.SpySetup{Full: true}, "", "as many clients", "too_busy"},
		{"no receiver", radiotest.SpySetup{NoDevice: true}, "", "unplugged", "busy"},
		{"garbage", radiotest.SpySetup{Garbage: true}, "", "no SpyServer", ""},
		{"big", radiotest.SpySetup{Big: true}, "", "2097152 bytes", ""},
		{"deaf", radiotest.SpySetup{Deaf: true}, "", "no SpyServer answers", ""},
		{"slow", radiotest.SpySetup{Slow: true}, "", "no SpyServer answers", ""},
		{"rate", radiotest.SpySetup{}, "?rate=100k", "768 kHz, 384 kHz", ""},
		{"nowhere", radiotest.SpySetup{NoSync: true}, "", "center", ""},
		{"too high", radiotest.SpySetup{}, "?center=1G", "260 MHz", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newSource(t, radiotest.NewSpyServer(t, tc.setup).URL(tc.parameters))
			defer r.Close()
			_, err := r.Open(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
			if no, said := errors.AsType[*radio.Refusal](err); said != (tc.reason != "") || said && (no.Reason != tc.reason || no.After < 10*time.Second) {
				t.Errorf("refusal %+v, want %q", no, tc.reason)
			}
		})
	}
}

// TestSpyserver_Silence ends a connection on which nothing comes any more.
func TestSpyserver_Silence(t *testing.T) {
	t.Parallel()
	r := newSource(t, radiotest.NewSpyServer(t, radiotest.SpySetup{Silent: true}).URL(""))
	start(t, r)
	var b radio.Block
	if err := r.Read(t.Context(), &b); err == nil || !strings.Contains(err.Error(), "no samples for 5s") {
		t.Errorf("got %v", err)
	}
}

func TestSpyserver_Parameters(t *testing.T) {
	for _, tc := range []struct{ source, field string }{
		{"spyserver:x", "host"},
		{"spyserver://x?gain=-1", "gain"},
		{"spyserver://x?gain=high", "gain"},
		{"spyserver://x?digital_gain=1.5", "digital_gain"},
		{"spyserver://x?format=cs16", "format"},
		{"spyserver://x?center=5G", "center"},
		{"spyserver://x?rate=0", "rate"},
		{"spyserver://x?buffer=1x", "buffer"},
		{"spyserver://x?zzz=1", "zzz"},
	} {
		_, err := radio.Open(tc.source, radio.Options{})
		if faults := radio.Faults(err); len(faults) != 1 || faults[0].Field != tc.field {
			t.Errorf("%s: %v, want a fault of %s", tc.source, err, tc.field)
		}
	}
}
