package radio_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/protocol"
)

const ka9qChannel = 14074

func radiod(t *testing.T, setup radiotest.RadiodSetup) *radiotest.Radiod {
	t.Helper()
	if setup.Channels == nil {
		setup.Channels = []radiotest.RadiodChannel{{SSRC: 7, CenterHz: 1e6}, {SSRC: ka9qChannel, CenterHz: 14.074e6, Rate: 48000, GainDB: 30}}
	}
	return radiotest.NewRadiod(t, setup)
}

func TestKa9q_Conformance(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, parameters string
		setup            radiotest.RadiodSetup
	}{
		{"listening", "", radiotest.RadiodSetup{}},
		{"tuning", "?control=on", radiotest.RadiodSetup{Noise: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			source := func(setup radiotest.RadiodSetup) func(t *testing.T) radio.Receiver {
				return func(t *testing.T) radio.Receiver {
					return newSource(t, radiod(t, setup).URL(ka9qChannel, tc.parameters))
				}
			}
			losing, silent := tc.setup, tc.setup
			losing.Mangle = func(n int, packet []byte) [][]byte {
				if n == 30 || n == 31 { // of 360 and 240 samples, or 360 and 360
					return nil
				}
				return [][]byte{packet}
			}
			losing.Channels = []radiotest.RadiodChannel{{SSRC: ka9qChannel, CenterHz: 14.074e6, Rate: 18000, GainDB: 30}} // one packet of 360 a block
			silent.Silent = true
			radiotest.Conformance(t, radiotest.Driver{
				New:     source(tc.setup),
				Losing:  source(losing),
				Lost:    2 * 360,
				Blocked: source(silent),
				Tuning:  radio.Tuning{CenterHz: 7.074e6},
				Blocks:  25,
			})
		})
	}
}

// counted reads blocks for a while and checks that each sample is the one that its index says.
func counted(t *testing.T, r radio.Receiver, listen time.Duration, float16 bool) (blocks []radio.Block) {
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
			n, bits := radiotest.RadiodCount(b.Raw[i*per:(i+1)*per], float16)
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

// TestKa9q_Index has everything go wrong that can: lost, late and doubled packets, both counters wrapping, muted stretches, foreign
// packets. Each sample must still be the one that its index says, and what is missing be told by its reason.
func TestKa9q_Index(t *testing.T) {
	t.Parallel()
	const rate, block = 48000, 960
	lost, held := 0, []byte(nil)
	server := radiotest.NewRadiod(t, radiotest.RadiodSetup{
		Channels: []radiotest.RadiodChannel{{SSRC: ka9qChannel, CenterHz: 14e6, Rate: rate, FirstSeq: 65536 - 300, FirstTimestamp: 1<<32 - 2*rate}},
		Noise:    true,
		Muted:    func(n int) bool { return n%40 > 33 },
		Mangle: func(n int, packet []byte) [][]byte {
			switch {
			case n%23 == 5: // a packet swaps places with the one after it
				held = packet
				return nil
			case held != nil:
				late := held
				held = nil
				return [][]byte{packet, late}
			case n%31 == 9:
				return [][]byte{packet, packet}
			case n%57 == 20, n%57 == 21:
				lost++
				return nil
			}
			return [][]byte{packet}
		},
	})
	r := newSource(t, server.URL(ka9qChannel, ""))
	start(t, r)
	blocks := counted(t, r, 5*time.Second, false)
	server.Close()
	last := blocks[len(blocks)-1]
	if last.Index < 4*rate || last.Segment != 0 {
		t.Errorf("after 5 s the index is %d in segment %d: want about %d in segment 0", last.Index, last.Segment, 5*rate)
	}
	missing := uint64(0)
	for _, b := range blocks {
		missing += b.LostBefore
		if !b.LostExact {
			t.Errorf("the loss before %d is an estimate", b.Index)
		}
	}
	// What this machine itself loses when it is busy comes on top.
	h := r.Health()
	if muted := h.Lost["muted"]; muted < 4*5*block || muted > 7*6*block || h.Lost["network"] < 10*360 {
		t.Errorf("lost %v: want some 36 blocks of %d muted, and %d packets of up to 360 from the network", h.Lost, block, lost)
	}
	if missing == 0 || len(h.Lost) != 2 {
		t.Errorf("%d missing, %v", missing, h.Lost)
	}
}

func TestKa9q_Encodings(t *testing.T) {
	t.Parallel()
	for encoding, name := range map[uint8]string{1: "s16le", 2: "s16be", 4: "f32le", 6: "f16le", 8: "f32be", 9: "f16be"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := radiotest.NewRadiod(t, radiotest.RadiodSetup{Channels: []radiotest.RadiodChannel{
				{SSRC: 5, CenterHz: 1e6, Rate: 24000, Encoding: encoding, FirstTimestamp: 1<<32 - 1000},
			}})
			r := newSource(t, server.URL(5, ""))
			info := start(t, r)
			want := "cf32"
			if strings.HasPrefix(name, "s16") {
				want = "cs16"
			}
			if info.Format.String() != want {
				t.Errorf("format is %v, want %s", info.Format, want)
			}
			if n := len(counted(t, r, time.Second, strings.HasPrefix(name, "f16"))); n < 10 {
				t.Errorf("%d blocks came in a second", n)
			}
		})
	}
}

func TestKa9q_Info(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{})
	r := newSource(t, server.URL(ka9qChannel, ""))
	info := start(t, r)
	want := radio.Tuning{CenterHz: 14.074e6, SampleRateHz: 48000, GainDB: 30}
	if info.Tuning != want || info.Tunable || !info.Live || !info.Timeline || !strings.Contains(info.Hardware, "RX888") {
		t.Errorf("Info is %+v", info)
	}
	agc := radiod(t, radiotest.RadiodSetup{Channels: []radiotest.RadiodChannel{{SSRC: 1, CenterHz: 1e6, AGC: true, GainDB: 77}}})
	if info = start(t, newSource(t, agc.URL(1, ""))); !math.IsNaN(info.Tuning.GainDB) || len(info.Notes) != 1 || !strings.Contains(info.Notes[0], "AGC") {
		t.Errorf("with AGC: gain %v, notes %q", info.Tuning.GainDB, info.Notes)
	}
}

// TestKa9q_Retune checks that the new tuning begins with the very sample with which radiod's does, whoever asked for it.
func TestKa9q_Retune(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		exact bool
		tune  func(t *testing.T, server *radiotest.Radiod, r radio.Receiver)
	}{
		{"ours", true, func(t *testing.T, _ *radiotest.Radiod, r radio.Receiver) {
			if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 10e6}); err != nil {
				t.Error(err)
			}
		}},
		{"another's", false, func(_ *testing.T, server *radiotest.Radiod, _ radio.Receiver) {
			server.Command(ka9qChannel, map[byte][]byte{33: radiotest.RadiodFrequency(10e6)})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := radiod(t, radiotest.RadiodSetup{})
			r := newSource(t, server.URL(ka9qChannel, "?control=on"))
			start(t, r)
			counted(t, r, 300*time.Millisecond, false)
			tc.tune(t, server, r)
			blocks := counted(t, r, time.Second, false)
			i := slices.IndexFunc(blocks, func(b radio.Block) bool { return b.Segment == 1 })
			if i < 0 {
				t.Fatal("no new segment")
			}
			first := blocks[i]
			n, _ := radiotest.RadiodCount(first.Raw[:4], false)
			retune := server.Retunes()[0]
			if first.Tuning.CenterHz != 10e6 || first.Flags&radio.Settling == 0 || first.LostBefore != 0 {
				t.Errorf("first block of the segment: %v, flags %v, lost %d", first.Tuning, first.Flags, first.LostBefore)
			}
			late := int32(n - retune.Timestamp)
			if tc.exact && late != 0 || late < 0 || late > 4*960 {
				t.Errorf("the segment begins %d samples after the retune", late)
			}
			if last := blocks[len(blocks)-1]; last.Flags != 0 || last.Segment != 1 {
				t.Errorf("last block: segment %d, flags %v", last.Segment, last.Flags)
			}
		})
	}
}

// TestKa9q_Locked checks that what was applied is told, not what was asked, and that nothing is asked twice.
func TestKa9q_Locked(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{Locked: true})
	r := newSource(t, server.URL(ka9qChannel, "?control=on"))
	start(t, r)
	for range 3 {
		if err := r.Tune(t.Context(), radio.Tuning{CenterHz: 10e6}); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range counted(t, r, 500*time.Millisecond, false) {
		if b.Tuning.CenterHz != 14.074e6 || b.Segment != 0 {
			t.Fatalf("segment %d at %v Hz", b.Segment, b.Tuning.CenterHz)
		}
	}
	if n := server.Commands(); n != 1 {
		t.Errorf("%d commands came, want 1", n)
	}
}

// TestKa9q_Rate has a channel change its rate: radiod begins it anew, with other timestamps.
func TestKa9q_Rate(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{})
	r := newSource(t, server.URL(ka9qChannel, "?control=on"))
	start(t, r)
	counted(t, r, 200*time.Millisecond, false)
	if err := r.Tune(t.Context(), radio.Tuning{SampleRateHz: 96000}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	b := radio.Block{}
	for b.Segment == 0 {
		if err := r.Read(ctx, &b); err != nil {
			t.Fatal(err)
		}
	}
	if b.Tuning.SampleRateHz != 96000 || b.Flags&radio.Settling == 0 {
		t.Errorf("first block at the new rate: %+v", b.Tuning)
	}
	for _, b := range counted(t, r, time.Second, false) {
		if b.Segment != 1 || math.Abs(b.Tuning.SampleRateHz-96000) > 10 {
			t.Errorf("block at %d: segment %d, %v", b.Index, b.Segment, b.Tuning)
		}
		if off := time.Since(b.Time).Abs(); off > 2*time.Second {
			t.Errorf("block at %d has time %v", b.Index, b.Time)
		}
	}
}

// TestKa9q_Create has a channel made, which stays while it is heard and goes afterwards.
func TestKa9q_Create(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{})
	r := newSource(t, server.URL(99, "?control=on&center=5M&rate=24k&gain=-6"))
	info := start(t, r)
	if want := (radio.Tuning{CenterHz: 5e6, SampleRateHz: 24000, GainDB: -6}); info.Tuning != want || info.Format.String() != "cf32" {
		t.Errorf("made %+v %v, want %+v cf32", info.Tuning, info.Format, want)
	}
	if want := (radio.Range{LowHz: 15000 + 0.45*24000, HighHz: 0.47*64.8e6 - 0.45*24000}); math.Abs(info.Range.LowHz-want.LowHz) > 1 || math.Abs(info.Range.HighHz-want.HighHz) > 1 {
		t.Errorf("range is %v to %v Hz, want %v to %v", info.Range.LowHz, info.Range.HighHz, want.LowHz, want.HighHz)
	}
	if n := len(counted(t, r, 500*time.Millisecond, false)); n < 5 {
		t.Errorf("%d blocks", n)
	}
	again := newSource(t, server.URL(99, "?control=on&center=5M&rate=24k&gain=-6"))
	start(t, again)
	if n := server.Commands(); n != 1 {
		t.Errorf("%d commands, want 1: the channel was there and as it should be", n)
	}
}

// TestKa9q_Time checks the times of samples against the clock that made them.
func TestKa9q_Time(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{})
	wall := func() (time.Time, protocol.TimeQuality, time.Duration) {
		return time.Now(), protocol.TimeQuality_TIME_QUALITY_NTP, 2 * time.Millisecond
	}
	r, err := radio.Open(server.URL(ka9qChannel, ""), radio.Options{Wall: wall})
	if err != nil {
		t.Fatal(err)
	}
	start(t, r)
	for _, b := range counted(t, r, 3*time.Second, false) {
		if age := time.Since(b.End()); b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_NTP || b.TimeUncertainty > time.Second ||
			b.TimeUncertainty < 22*time.Millisecond {
			t.Errorf("block at %d is %v old, ±%v, %v", b.Index, age, b.TimeUncertainty, b.TimeQuality)
		}
	}
	// A clock that is wrong by seconds is not stated to be known better.
	skewed := radiod(t, radiotest.RadiodSetup{Skew: 3 * time.Second})
	r = newSource(t, skewed.URL(ka9qChannel, ""))
	start(t, r)
	blocks := counted(t, r, 1500*time.Millisecond, false)
	if b := blocks[len(blocks)-1]; b.TimeUncertainty < 3*time.Second {
		t.Errorf("with a clock 3 s off the uncertainty is %v", b.TimeUncertainty)
	}
}

func TestKa9q_Refused(t *testing.T) {
	t.Parallel()
	channels := []radiotest.RadiodChannel{
		{SSRC: 1, CenterHz: 1e6, Mono: true, Preset: "usb"}, {SSRC: 2, CenterHz: 1e6, Encoding: 3}, {SSRC: 3},
	}
	for _, tc := range []struct {
		name       string
		ssrc       uint32
		parameters string
		setup      radiotest.RadiodSetup
		want       string
	}{
		{"none answers", 1, "", radiotest.RadiodSetup{Deaf: true}, "does not answer"},
		{"no such channel", 4, "", radiotest.RadiodSetup{}, "it has 3, such as 1, 2, 3"},
		{"not made", 4, "?control=on&center=1M", radiotest.RadiodSetup{Static: true}, "data ="},
		{"where", 4, "?control=on", radiotest.RadiodSetup{}, "center"},
		{"mono", 1, "", radiotest.RadiodSetup{}, "demodulated"},
		{"opus", 2, "", radiotest.RadiodSetup{}, "encoded"},
		{"no frequency", 3, "", radiotest.RadiodSetup{}, "no frequency"},
		{"iface", 1, "?iface=nosuch0", radiotest.RadiodSetup{}, "want one of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.setup.Channels = channels
			server := radiotest.NewRadiod(t, tc.setup)
			r := newSource(t, server.URL(tc.ssrc, tc.parameters))
			defer r.Close()
			if _, err := r.Open(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
			if n := len(server.Channels()); n != len(channels) {
				t.Errorf("radiod has %d channels afterwards, want %d: nobody asked for more", n, len(channels))
			}
		})
	}
}

// TestKa9q_Gone has radiod go silent, and send where nothing is heard.
func TestKa9q_Gone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		setup radiotest.RadiodSetup
		end   bool
		want  string
	}{
		"ended": {radiotest.RadiodSetup{}, true, "said nothing"},
		"deaf":  {radiotest.RadiodSetup{Silent: true}, false, "none come"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := radiod(t, tc.setup)
			r := newSource(t, server.URL(ka9qChannel, ""))
			start(t, r)
			if tc.end {
				server.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var err error
			for b := (radio.Block{}); err == nil; {
				err = r.Read(ctx, &b)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestKa9q_Parameters(t *testing.T) {
	for _, tc := range []struct{ source, field string }{
		{"ka9q://hf.local/0", "ssrc"},
		{"ka9q://hf.local/4294967295", "ssrc"},
		{"ka9q://hf.local/x", "ssrc"},
		{"ka9q://hf.local", "ssrc"},
		{"ka9q:hf.local/5", "host"},
		{"ka9q://hf.local:0/5", "port"},
		{"ka9q://hf.local/5?center=5M", "center"},
		{"ka9q://hf.local/5?control=yes", "control"},
		{"ka9q://hf.local/5?control=on&encoding=opus", "encoding"},
		{"ka9q://hf.local/5?control=on&gain=loud", "gain"},
		{"ka9q://hf.local/5?control=on&rate=1", "rate"},
		{"ka9q://hf.local/5?control=on&preset=" + strings.Repeat("x", 32), "preset"},
		{"ka9q://hf.local/5?data=a:b:c", "data"},
		{"ka9q://hf.local/5?buffer=0", "buffer"},
		{"ka9q://hf.local/5?zzz=0", "zzz"},
	} {
		_, err := radio.Open(tc.source, radio.Options{})
		if faults := radio.Faults(err); len(faults) != 1 || faults[0].Field != tc.field {
			t.Errorf("%s: %v, want a fault of %s", tc.source, err, tc.field)
		}
	}
	r := newSource(t, "ka9q://127.0.0.1/5")
	defer r.Close()
	if _, err := r.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "no IPv4 multicast group") {
		t.Errorf("an address that is no group: %v", err)
	}
}

func TestKa9q_Probe(t *testing.T) {
	t.Parallel()
	server := radiod(t, radiotest.RadiodSetup{})
	found, err := radio.Probe(t.Context(), server.URL(ka9qChannel, ""), radio.Options{}, 300*time.Millisecond, nil)
	if err != nil || found.Samples == 0 || len(found.Facts) != 5 {
		t.Errorf("%v, %+v", err, found)
	}
}
