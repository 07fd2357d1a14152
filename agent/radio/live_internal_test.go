package radio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// scripted is a wire that delivers blocks of 100 samples, each a count, every 10 ms.
type scripted struct {
	refuse error
	script func(ctx context.Context, in *intake) error // nil: samples until the end
	tunes  chan Tuning
	once   sync.Once
	gone   chan struct{} // closed by close
}

func newScripted() *scripted {
	return &scripted{tunes: make(chan Tuning, 8), gone: make(chan struct{})} // room for all that a test asks
}

func (w *scripted) connect(context.Context) (Info, error) {
	if w.refuse != nil {
		return Info{}, w.refuse
	}
	return Info{
		Hardware: "scripted", Format: dsp.CS16, Tunable: true, Tuning: Tuning{CenterHz: 1e6, SampleRateHz: 10e3, GainDB: math.NaN()},
		Range: Range{LowHz: 1e5, HighHz: 1e7, LowRateHz: 10e3, HighRateHz: 20e3, Settling: time.Second},
	}, nil
}

func (w *scripted) stream(ctx context.Context, in *intake) error {
	if w.script != nil {
		return w.script(ctx, in)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case t := <-w.tunes:
			in.begin(t, 30*time.Millisecond)
		case <-tick.C:
			counts(in, 100)
		case <-w.gone:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *scripted) tune(_ context.Context, to Tuning) error { w.tunes <- to; return nil }
func (w *scripted) close() error                            { w.once.Do(func() { close(w.gone) }); return nil }

// counts puts n samples whose values are their numbers. Sample 0 was taken in 2026.
func counts(in *intake, n int) {
	raw := make([]byte, 4*n)
	first := in.index()
	for i := range n {
		binary.LittleEndian.PutUint32(raw[4*i:], uint32(first)+uint32(i))
	}
	in.put(raw, timeOf(first))
}

func timeOf(index uint64) moment {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(index) * 100 * time.Microsecond)
	return moment{at, time.Millisecond, protocol.TimeQuality_TIME_QUALITY_NTP}
}

func openLive(t *testing.T, w *scripted, set liveSettings, opts Options) *live {
	t.Helper()
	if opts.Hosts == nil {
		opts.Hosts = NewHosts()
	}
	l := newLive("test://host", opts, set, w)
	if _, err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustRead(t *testing.T, l *live) Block {
	t.Helper()
	var b Block
	if err := l.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Samples() {
		if got, want := binary.LittleEndian.Uint32(b.Raw[4*i:]), uint32(b.Index)+uint32(i); got != want {
			t.Fatalf("sample %d of the block at %d is number %d", i, b.Index, got)
		}
	}
	if want := timeOf(b.Index); !b.Time.Equal(want.Time) || b.TimeQuality != want.Quality || b.TimeUncertainty != want.Uncertainty {
		t.Errorf("the block at %d has time %v %v ±%v, want %+v", b.Index, b.Time, b.TimeQuality, b.TimeUncertainty, want)
	}
	return b
}

func TestLive_SlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLive(t, newScripted(), liveSettings{buffer: 500 * time.Millisecond}, Options{BlockSamples: 500})
		defer l.Close()
		mustRead(t, l)
		time.Sleep(10*time.Second + time.Millisecond)
		b := mustRead(t, l)
		if b.LostBefore == 0 || !b.LostExact || b.LostBefore%500 != 0 {
			t.Errorf("%d samples are declared lost (exact: %v) after ten seconds without reading, want whole blocks", b.LostBefore, b.LostExact)
		}
		if b.Index != 500+b.LostBefore || b.Segment != 0 {
			t.Errorf("index %d, segment %d after a loss of %d", b.Index, b.Segment, b.LostBefore)
		}
		if behind := 100_000 - int(b.Index); behind > 6000 {
			t.Errorf("the oldest block is %d samples old, more than the buffer of 5000 and a block", behind)
		}
		if h := l.Health(); h.Lost[overrun] != b.LostBefore {
			t.Errorf("health counts %v, the block %d", h.Lost, b.LostBefore)
		}
	})
}

// A reader that keeps up has few blocks go round, however long the buffer is.
func TestIntake_MemoryGoesRound(t *testing.T) {
	in := newIntake(Info{Format: dsp.CS16, Tuning: Tuning{SampleRateHz: 1e4}}, 500, 10*time.Second)
	seen := map[*byte]bool{}
	var b Block
	for range 100 {
		counts(in, 1000) // two blocks
		for range 2 {
			if ok, err := in.take(&b); !ok || err != nil {
				t.Fatalf("no block (%v)", err)
			}
			seen[&b.Raw[0]] = true
		}
	}
	if len(seen) > 3 { // of two blocks in the ring and one at the reader's
		t.Errorf("%d blocks were made", len(seen))
	}
}

func TestLive_Losses(t *testing.T) {
	w := newScripted()
	w.script = func(_ context.Context, in *intake) error {
		counts(in, 100)
		in.lost(50, true, "network")
		counts(in, 100)
		in.lost(70, false, "clock")
		in.lost(5, true, "network")
		counts(in, 30)
		in.lost(0, false, "nothing")
		counts(in, 30)
		return errors.New("the far end hung up")
	}
	l := openLive(t, w, liveSettings{}, Options{})
	for i, want := range []struct {
		index, lost uint64
		exact       bool
		segment     uint32
		samples     int
	}{{0, 0, true, 0, 100}, {150, 50, true, 0, 100}, {325, 75, false, 1, 60}} {
		b := mustRead(t, l)
		if b.Index != want.index || b.LostBefore != want.lost || b.LostExact != want.exact || b.Segment != want.segment || b.Samples() != want.samples {
			t.Errorf("block %d: index %d, lost %d (exact %v), segment %d, %d samples, want %+v", i, b.Index, b.LostBefore, b.LostExact, b.Segment, b.Samples(), want)
		}
	}
	var b Block
	if err := l.Read(t.Context(), &b); err == nil || !strings.Contains(err.Error(), "hung up") {
		t.Errorf("after the end: %v", err)
	}
	h := l.Health()
	if h.Connected || h.Err == nil || h.Lost["network"] != 55 || h.Lost["clock"] != 70 || len(h.Lost) != 2 || h.SamplesTotal != 260 {
		t.Errorf("health is %+v", h)
	}
}

func TestLive_Tune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScripted()
		l := openLive(t, w, liveSettings{}, Options{BlockSamples: 500})
		defer l.Close()
		first := mustRead(t, l)
		for _, same := range []Tuning{{GainDB: math.NaN()}, {CenterHz: 1e6, SampleRateHz: 10e3}, first.Tuning} {
			if err := l.Tune(t.Context(), same); err != nil {
				t.Errorf("Tune to what is: %v", err)
			}
		}
		if faults := Faults(l.Tune(t.Context(), Tuning{CenterHz: 5e7})); len(faults) != 1 || faults[0].Field != "center" {
			t.Errorf("out of range: %v", faults)
		}
		if faults := Faults(l.Tune(t.Context(), Tuning{SampleRateHz: math.Inf(1)})); len(faults) != 1 || faults[0].Field != "rate" {
			t.Errorf("rate out of range: %v", faults)
		}
		if err := l.Tune(t.Context(), Tuning{CenterHz: 2e6, GainDB: math.NaN()}); err != nil {
			t.Fatal(err)
		}
		b := mustRead(t, l)
		for b.Segment == 0 {
			b = mustRead(t, l)
		}
		if b.Tuning.CenterHz != 2e6 || b.Tuning.SampleRateHz != 10e3 || b.Flags != Settling || b.Samples() != 300 {
			t.Errorf("first block after Tune: %+v", b)
		}
		if b = mustRead(t, l); b.Flags != 0 || b.Segment != 1 || b.Samples() != 500 {
			t.Errorf("settled: segment %d, flags %v, %d samples", b.Segment, b.Flags, b.Samples())
		}
		if err := l.Tune(t.Context(), b.Tuning); err != nil || len(w.tunes) != 0 {
			t.Errorf("asked again for what was applied: %v, %d asked", err, len(w.tunes))
		}
	})
}

func TestLive_Watch(t *testing.T) {
	silent := func(ctx context.Context, in *intake) error {
		counts(in, 100)
		<-ctx.Done()
		return nil
	}
	torrent := func(ctx context.Context, in *intake) error {
		for ctx.Err() == nil {
			counts(in, 1000)
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}
	for _, tc := range []struct {
		name   string
		script func(context.Context, *intake) error
		set    liveSettings
		want   string
	}{
		{"silence", silent, liveSettings{stall: 5 * time.Second}, "test://host: no samples for 5s"},
		{"too fast", torrent, liveSettings{}, "too many for 10 kHz"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newScripted()
				w.script = tc.script
				l := openLive(t, w, tc.set, Options{})
				defer l.Close()
				var err error
				for b := (Block{}); err == nil; {
					err = l.Read(t.Context(), &b)
				}
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want it to say %q", err, tc.want)
				}
			})
		})
	}
}

// A rate that was higher for a while is no reason to take what came for too much.
func TestLive_WatchKnowsFormerRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newScripted()
		w.script = func(ctx context.Context, in *intake) error {
			fast, _ := in.applied()
			slow := fast
			fast.SampleRateHz = 100e3
			for tick := range 3000 { // half a minute, the first ten seconds of it fast
				n := 100
				switch tick {
				case 0:
					in.begin(fast, 0)
				case 1000:
					in.begin(slow, 0)
				}
				if tick < 1000 {
					n = 1000
				}
				counts(in, n)
				if err := wait(ctx, nil, 10*time.Millisecond); err != nil {
					return err
				}
			}
			return io.EOF
		}
		l := openLive(t, w, liveSettings{ends: true}, Options{})
		defer l.Close()
		var err error
		for b := (Block{}); err == nil; {
			err = l.Read(t.Context(), &b)
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end of the samples", err)
		}
	})
}

func TestLive_Refusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := NewHosts()
		open := func(refuse error) error {
			w := newScripted()
			w.refuse = refuse
			l := newLive("test://other", Options{Hosts: hosts}, liveSettings{host: "example.org:8073"}, w)
			defer l.Close()
			_, err := l.Open(t.Context())
			return err
		}
		no := &Refusal{"test://host", "too_busy", "all channels are taken", 15 * time.Second}
		if err := open(no); !errors.Is(err, no) {
			t.Errorf("refused: %v", err)
		}
		time.Sleep(10 * time.Second)
		left, ok := errors.AsType[*Refusal](open(nil))
		if !ok || left.Reason != "too_busy" || left.After != 5*time.Second || left.Where != "test://other" {
			t.Errorf("another receiver, 10 s later: %+v, want the same refusal for another 5 s", left)
		}
		time.Sleep(5 * time.Second)
		if err := open(nil); err != nil {
			t.Errorf("15 s later: %v", err)
		}
		if err := open(errors.New("connection reset")); err == nil {
			t.Error("want an error")
		}
		if left, ok := errors.AsType[*Refusal](open(nil)); !ok || left.Reason != "dropped" || left.After != afterDrop {
			t.Errorf("just after a drop: %+v", left)
		}
	})
}

// A peer that hangs up is tried again: io.EOF would mean that a recording has ended.
func TestLive_HungUp(t *testing.T) {
	hangUp := fmt.Errorf("read the header: %w", io.EOF)
	w := newScripted()
	w.refuse = hangUp
	_, err := newLive("test://host", Options{Hosts: NewHosts()}, liveSettings{}, w).Open(t.Context())
	if errors.Is(err, io.EOF) || !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != hangUp.Error() {
		t.Errorf("Open: %v", err)
	}
	for _, ends := range []bool{false, true} {
		w := newScripted()
		w.script = func(context.Context, *intake) error { return hangUp }
		var b Block
		err := openLive(t, w, liveSettings{ends: ends}, Options{}).Read(t.Context(), &b)
		if err == nil || errors.Is(err, io.EOF) != ends {
			t.Errorf("Read, of one whose end is io.EOF: %v: %v", ends, err)
		}
	}
}

func TestHosts_Loopback(t *testing.T) {
	h := NewHosts()
	for _, host := range []string{"127.0.0.1:1234", "localhost:1", "[::1]:8073", ""} {
		h.leave(host, errors.New("connection refused"))
		if err := h.enter(host, "x"); err != nil {
			t.Errorf("%q is left alone: %v", host, err)
		}
	}
	h.leave("127.0.0.1:1", &Refusal{Reason: "busy", After: time.Minute})
	if err := h.enter("127.0.0.1:1", "x"); err == nil {
		t.Error("a refusal of this machine's own server does not count")
	}
}

func TestParams_HostPort(t *testing.T) {
	for _, tc := range []struct{ rest, want, fault string }{
		{"//kiwi.example.org:8073", "kiwi.example.org:8073", ""},
		{"//kiwi.example.org", "kiwi.example.org:99", ""},
		{"//kiwi.example.org/", "kiwi.example.org:99", ""},
		{"//192.0.2.1:1", "192.0.2.1:1", ""},
		{"//[2001:db8::1]:80", "[2001:db8::1]:80", ""},
		{"//[2001:db8::1]", "[2001:db8::1]:99", ""},
		{"//2001:db8::1", "[2001:db8::1]:99", ""},
		{"//a:b:c", "", "host"},
		{"kiwi:8073", "", "host"},
		{"//", "", "host"},
		{"//:80", "", "host"},
		{"//user@host", "", "host"},
		{"//host/path", "", "host"},
		{"//host:0", "", "port"},
		{"//host:65536", "", "port"},
		{"//host:http", "", "port"},
	} {
		p := newParams("x:"+tc.rest, tc.rest)
		got := p.hostPort(99)
		faults := Faults(p.finish())
		if tc.fault == "" && (len(faults) > 0 || got != tc.want) || tc.fault != "" && (len(faults) != 1 || faults[0].Field != tc.fault) {
			t.Errorf("%s: %q, %v, want %q, fault of %q", tc.rest, got, faults, tc.want, tc.fault)
		}
	}
}

func TestParams_Secret(t *testing.T) {
	source := "kiwi://h?password=hunter2&center=1x&ipl_password=file:/nowhere"
	p := newParams(source, strings.TrimPrefix(source, "kiwi:"))
	if got := p.secret("password"); string(got) != "hunter2" {
		t.Errorf("the secret is %q", string(got))
	}
	p.secret("ipl_password")
	p.hertz("center", 1, 10)
	err := p.finish()
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "password=***") || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("got %v, want faults that show no password, and the file that is missing", err)
	}
	if _, err := Open("nowhere://h?password=hunter2", Options{}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("unknown scheme: %v", err)
	}
	for _, source := range []string{
		"kiwi://h?pasword=hunter2", "kiwi://h?Passwd=hunter2", "kiwi://u:hunter2@h", "rtltcp://u:hunter2@h:x",
		"owrx://127.0.0.1?web=http://u:hunter2@h", "nowhere://u:hunter2@h",
	} {
		if _, err := Open(source, Options{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password in the wrong place is shown: %v", err)
		}
	}
}

func BenchmarkIntake(b *testing.B) {
	info := Info{Format: dsp.CU8, Tuning: Tuning{SampleRateHz: 2.4e6}}
	in := newIntake(info, 0, time.Second)
	raw := make([]byte, 1<<16)
	var block Block
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		in.put(raw, moment{})
		for {
			if ok, _ := in.take(&block); !ok {
				break
			}
		}
	}
}
