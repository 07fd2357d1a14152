package radio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/protocol"
)

func newKiwi(t testing.TB, k *radiotest.Kiwi, params string) radio.Receiver {
	t.Helper()
	return newSource(t, "kiwi://"+k.Start(t)+"?center=77.5k"+params)
}

func TestKiwiSDR_Conformance(t *testing.T) {
	faults := radiotest.Driver{
		New:     func(t *testing.T) radio.Receiver { return newKiwi(t, &radiotest.Kiwi{}, "") },
		Blocked: func(t *testing.T) radio.Receiver { return newKiwi(t, &radiotest.Kiwi{Frames: once}, "&buffer=1s") },
		Losing: func(t *testing.T) radio.Receiver {
			return newKiwi(t, &radiotest.Kiwi{Skip: []uint32{15, 21, 22}}, "")
		},
		Lost:   3 * 512,
		Tuning: radio.Tuning{CenterHz: 7.1e6, GainDB: 50},
		Blocks: 25,
	}
	for _, order := range []string{"little endian", "big endian"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			d := faults
			d.New = func(t *testing.T) radio.Receiver {
				return newKiwi(t, &radiotest.Kiwi{IgnoreLE: order == "big endian", Stale: 2}, "")
			}
			radiotest.Conformance(t, d)
		})
	}
}

// stamped is frame n of a receiver whose times and rate are right.
func stamped(n int) radiotest.KiwiFrame {
	ns := math.Round(float64(n) * 512 / 12001.135 * 1e9)
	return radiotest.KiwiFrame{Sec: 3600 + uint32(ns/1e9), Nsec: uint32(math.Mod(ns, 1e9)), IQ: radiotest.KiwiRamp(n)}
}

// once gives one frame, then nothing for longer than a test takes.
func once(n int, _ float64) (radiotest.KiwiFrame, bool) {
	if n > 0 {
		time.Sleep(8 * time.Second)
	}
	return stamped(n + 1), n < 2
}

// recording is one of the recordings of DCF77 at receivers with GNSS.
func kiwiRecording(t testing.TB, call string) []radiotest.KiwiFrame {
	t.Helper()
	dir := os.Getenv("HEIMDALL_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "realdata")
	}
	file, err := os.ReadFile(filepath.Join(dir, "20171127T104156Z_77500_"+call+"_iq.wav"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no real recordings in %s: set HEIMDALL_REALDATA", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	frames, err := radiotest.ReadKiwiWAV(file)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// ownLine is the straight line through a recording's stamps as this test finds it: the median slope between stamps half the
// recording apart, then the median of what is left. Both shrug off the stale ones.
func ownLine(frames []radiotest.KiwiFrame) (periodNs, atNs float64) {
	ns := func(i int) float64 { return float64(frames[i].Sec)*1e9 + float64(frames[i].Nsec) }
	half := len(frames) / 2
	var slopes, offsets []float64
	for i := range half {
		slopes = append(slopes, (ns(i+half)-ns(i))/float64(512*half))
	}
	slices.Sort(slopes)
	periodNs = slopes[len(slopes)/2]
	for i := range frames {
		offsets = append(offsets, ns(i)-periodNs*float64(512*i))
	}
	slices.Sort(offsets)
	return periodNs, offsets[len(offsets)/2]
}

// TestKiwiSDR_RealStamps serves real recordings at their true speed, half of each unless HEIMDALL_WHOLE is set. Their times of
// the week are moved into the present one.
func TestKiwiSDR_RealStamps(t *testing.T) {
	for i, call := range []string{"DF0KL", "F1JEK", "HB9RYZ"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			frames := kiwiRecording(t, call)
			if os.Getenv("HEIMDALL_WHOLE") == "" {
				frames = frames[:len(frames)/2]
			}
			period, at := ownLine(frames)
			now := time.Now()
			week := weekOf(now)
			// In the present, the recording would begin now.
			shift := int(now.Sub(week).Seconds()) - int(at/1e9) // negative early in the week
			k := &radiotest.Kiwi{RateHz: 1e9 / period, IgnoreLE: i%2 == 0, Frames: func(n int, _ float64) (radiotest.KiwiFrame, bool) {
				if n >= len(frames) {
					return radiotest.KiwiFrame{}, false
				}
				f := frames[n]
				f.Sec = uint32((int(f.Sec) + shift + 604800) % 604800)
				return f, true
			}}
			rx := newKiwi(t, k, "")
			if _, err := rx.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer rx.Close()
			worst, count := 0.0, 0
			for {
				var b radio.Block
				if err := rx.Read(t.Context(), &b); err != nil {
					break
				}
				if b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_GNSS || b.TimeUncertainty > 200*time.Nanosecond || b.LostBefore > 0 || b.Segment > 0 {
					t.Fatalf("block at %d: %v ±%v, %d lost, segment %d", b.Index, b.TimeQuality, b.TimeUncertainty, b.LostBefore, b.Segment)
				}
				want := week.Add(time.Duration(shift) * time.Second).Add(time.Duration(at + period*float64(b.Index)))
				worst = max(worst, math.Abs(float64(b.Time.Sub(want))))
				for j := range b.Samples() {
					n := b.Index + uint64(j)
					if got, want := int16(binary.LittleEndian.Uint16(b.Raw[4*j:])), frames[n/512].IQ[2*(n%512)]; got != want {
						t.Fatalf("sample %d is %d, want %d", n, got, want)
					}
				}
				count += b.Samples()
			}
			if count != 512*len(frames) {
				t.Errorf("%d samples of %d came", count, 512*len(frames))
			}
			if worst > 1000 {
				t.Errorf("times are off by up to %.0f ns from the recording's own", worst)
			}
			if ppm := rx.Health().RatePPM; math.Abs(ppm) > 0.1 {
				t.Errorf("the announced rate was the true one, measured %v ppm off", ppm)
			}
			t.Logf("%d frames, times within %.0f ns", len(frames), worst)
		})
	}
}

// weekOf is the UTC at which the present GPS week began.
func weekOf(now time.Time) time.Time {
	epoch := time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC).Add(-18 * time.Second)
	return epoch.AddDate(0, 0, 7*int(now.Sub(epoch).Hours()/(7*24)))
}

func TestKiwiSDR_WithoutStamps(t *testing.T) {
	for _, tc := range []struct {
		name string
		kiwi *radiotest.Kiwi
	}{
		{"hidden", &radiotest.Kiwi{Hidden: true}},
		{"never had a position", &radiotest.Kiwi{Frames: func(n int, _ float64) (radiotest.KiwiFrame, bool) {
			return radiotest.KiwiFrame{FixAge: 255, Sec: uint32(n / 23), IQ: radiotest.KiwiRamp(n)}, true
		}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			wall := func() (time.Time, protocol.TimeQuality, time.Duration) {
				return time.Now(), protocol.TimeQuality_TIME_QUALITY_NTP, 2 * time.Millisecond
			}
			rx, err := radio.Open("kiwi://"+tc.kiwi.Start(t), radio.Options{Wall: wall})
			if err != nil {
				t.Fatal(err)
			}
			defer rx.Close()
			info, err := rx.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.TimeQuality != protocol.TimeQuality_TIME_QUALITY_NTP {
				t.Errorf("Open says times are %v", info.TimeQuality)
			}
			for range 10 {
				var b radio.Block
				if err := rx.Read(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
				late := time.Since(b.End())
				if b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_NTP || b.TimeUncertainty < 100*time.Millisecond || late < -50*time.Millisecond || late > 2*time.Second {
					t.Errorf("block at %d: %v ±%v, ended %v ago", b.Index, b.TimeQuality, b.TimeUncertainty, late)
				}
			}
		})
	}
}

func TestKiwiSDR_StaleFix(t *testing.T) {
	t.Parallel()
	rx := newKiwi(t, &radiotest.Kiwi{Frames: func(n int, _ float64) (radiotest.KiwiFrame, bool) {
		f := stamped(n)
		f.FixAge = 90
		return f, true
	}}, "")
	if b := firstBlock(t, rx); b.TimeQuality != protocol.TimeQuality_TIME_QUALITY_GNSS_STALE {
		t.Errorf("a position of 90 s ago gives times that are %v", b.TimeQuality)
	}
}

// TestKiwiSDR_SlowLine: the line carries half of what is sent. What the server threw away is what is declared.
func TestKiwiSDR_SlowLine(t *testing.T) {
	t.Parallel()
	const rate = 96_000
	k := &radiotest.Kiwi{RateHz: rate, LineBytesPerS: rate * 4 / 2, CloseAfter: 600}
	rx := newKiwi(t, k, "")
	b := firstBlock(t, rx)
	lost, samples := b.LostBefore, uint64(b.Samples())
	for rx.Read(t.Context(), &b) == nil {
		if !b.LostExact || b.Segment > 0 {
			t.Errorf("block at %d: exact: %v, segment %d", b.Index, b.LostExact, b.Segment)
		}
		if got, want := int16(binary.LittleEndian.Uint16(b.Raw)), int16(b.Index); got != want {
			t.Fatalf("sample %d is %d, want %d", b.Index, got, want)
		}
		lost, samples = lost+b.LostBefore, samples+uint64(b.Samples())
	}
	dropped := uint64(k.Dropped())
	// Nothing tells of what was dropped after the last frame that came: on a busy computer a few in a row.
	const untold = 20
	if dropped < 100 || lost > dropped*512 || lost < (dropped-untold)*512 || lost != rx.Health().Lost["server"] || (lost+samples)/512 < 600-untold {
		t.Errorf("%d frames were thrown away; %d samples came, %d are declared lost", dropped, samples, lost)
	}
}

// TestKiwiSDR_TunesTwice: the server answers two orders at once; which it obeys when is not known. Nothing is taken for settled
// before both surely are.
func TestKiwiSDR_TunesTwice(t *testing.T) {
	t.Parallel()
	kHz := func(n int, freqKHz float64) (radiotest.KiwiFrame, bool) {
		f := stamped(n)
		for i := range f.IQ {
			f.IQ[i] = int16(freqKHz)
		}
		return f, true
	}
	rx := newKiwi(t, &radiotest.Kiwi{Frames: kHz}, "")
	b := firstBlock(t, rx)
	for _, centerHz := range []float64{5e6, 7e6, 7e6, 9e6, 5e6} {
		if err := rx.Tune(t.Context(), radio.Tuning{CenterHz: centerHz, GainDB: 60}); err != nil {
			t.Fatal(err)
		}
	}
	for b.Index < 3*12001 {
		if err := rx.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(b.Raw) && b.Flags&radio.Settling == 0; i += 2 {
			if got := int16(binary.LittleEndian.Uint16(b.Raw[i:])); math.Abs(float64(got)-b.Tuning.CenterHz/1e3) > 1 {
				t.Fatalf("block at %d says %.0f Hz, its samples are of %d kHz", b.Index, b.Tuning.CenterHz, got)
			}
		}
	}
	if b.Tuning.CenterHz != 5e6 || b.Tuning.GainDB != 60 || b.Flags&radio.Settling != 0 {
		t.Errorf("at the end: %+v, flags %v", b.Tuning, b.Flags)
	}
	if err := rx.Tune(t.Context(), radio.Tuning{GainDB: 40}); err != nil {
		t.Fatal(err)
	}
	for end := b.Index + 12001; b.Tuning.GainDB != 40; {
		if err := rx.Read(t.Context(), &b); err != nil || b.Index > end {
			t.Fatalf("block at %d: %+v, %v", b.Index, b.Tuning, err)
		}
	}
	if b.Flags&radio.Settling == 0 {
		t.Error("a gain is taken for settled at once")
	}
}

func firstBlock(t *testing.T, rx radio.Receiver) radio.Block {
	t.Helper()
	if _, err := rx.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rx.Close() })
	var b radio.Block
	if err := rx.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKiwiSDR_Refusals(t *testing.T) {
	full := map[string]string{"users": "8", "users_max": "8", "sw_version": "KiwiSDR_v1.843"}
	for _, tc := range []struct {
		name   string
		kiwi   *radiotest.Kiwi
		reason string
		after  time.Duration
		says   string
		heard  bool // it was spoken to
	}{
		{"too_busy", &radiotest.Kiwi{Refuse: "too_busy=8"}, "too_busy", 15 * time.Second, "all its 8 channels", true},
		{"full by its status", &radiotest.Kiwi{Status: full}, "too_busy", 15 * time.Second, "all its 8 channels", false},
		{"off the air by its status", &radiotest.Kiwi{Status: map[string]string{"offline": "yes"}}, "disabled", 5 * time.Minute, "off the air", false},
		{"redirect", &radiotest.Kiwi{Refuse: "redirect=http%3a%2f%2fother.example.org%3a8073"}, "redirect", time.Minute, "http://other.example.org:8073", true},
		{"wrong password", &radiotest.Kiwi{Password: "correct horse"}, "password", time.Minute, "password=", true},
		{"not allowed", &radiotest.Kiwi{Refuse: "badp=3"}, "banned", time.Hour, "ask the owner", true},
		{"one of an address", &radiotest.Kiwi{Refuse: "badp=5"}, "duplicate", time.Minute, "another listener", true},
		{"unknown code", &radiotest.Kiwi{Refuse: "badp=99"}, "password", time.Minute, `"99"`, true},
		{"quota", &radiotest.Kiwi{Refuse: "ip_limit=60,192.0.2.7"}, "ip_limit", 6 * time.Hour, "60 minutes", true},
		{"updating", &radiotest.Kiwi{Refuse: "reason_disabled=1 down"}, "disabled", 2 * time.Minute, "updated", true},
		{"exclusive", &radiotest.Kiwi{Refuse: "exclusive_use"}, "busy", time.Minute, "himself", true},
		{"wide bands only", &radiotest.Kiwi{Refuse: "wb_only"}, "mode", time.Hour, "wide", true},
		{"silent close", &radiotest.Kiwi{Silent: 1}, "kicked", time.Minute, "own network", true},
		{"silent close, later", &radiotest.Kiwi{Silent: 5}, "kicked", time.Minute, "own network", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rx := newKiwi(t, tc.kiwi, "&password=hunter2")
			defer rx.Close()
			_, err := rx.Open(t.Context())
			no, is := errors.AsType[*radio.Refusal](err)
			if !is || no.Reason != tc.reason || no.After != tc.after || !strings.Contains(no.Error(), tc.says) {
				t.Fatalf("got %v, want %s for %v that says %q", err, tc.reason, tc.after, tc.says)
			}
			if strings.Contains(no.Error(), "hunter2") {
				t.Errorf("the password is in %v", no)
			}
			if heard := len(tc.kiwi.Said()) > 0; heard != tc.heard {
				t.Errorf("it was spoken to: %v, want %v", heard, tc.heard)
			}
		})
	}
}

func TestKiwiSDR_KickedLater(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]*radiotest.Kiwi{
		"without a word": {CloseAfter: 12},
		"quota over":     {Say: "ip_limit=60,192.0.2.7", SayAfter: 10, CloseAfter: 12},
		"garbage":        {Garbage: true},
	} {
		rx := newKiwi(t, k, "")
		_, err := rx.Open(t.Context())
		samples := 0
		for b := (radio.Block{}); err == nil; {
			if err = rx.Read(t.Context(), &b); err == nil {
				samples += b.Samples()
			}
		}
		no, refused := errors.AsType[*radio.Refusal](err)
		switch name {
		case "without a word":
			if refused || samples != 12*512 || !strings.Contains(err.Error(), "read from kiwi://") {
				t.Errorf("%s: %d samples, then %v", name, samples, err)
			}
		case "quota over":
			if !refused || no.Reason != "ip_limit" {
				t.Errorf("%s: got %v", name, err)
			}
		default:
			if samples > 0 {
				t.Errorf("%s: %d samples, then %v", name, samples, err)
			}
		}
		rx.Close()
	}
}

func TestKiwiSDR_Speaks(t *testing.T) {
	t.Parallel()
	other := &radiotest.Kiwi{OffsetHz: 116e6, Password: "p&q"}
	k := &radiotest.Kiwi{Redirect: other.Start(t), Status: map[string]string{"users": "1", "users_max": "8"}}
	rx := newSource(t, "kiwi://"+k.Start(t)+"?center=144.1M&gain=70&user=a%26b&password=p%26q")
	info, err := rx.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rx.Close()
	said := strings.Join(other.Said(), "\n")
	for _, want := range []string{
		"SET auth t=kiwi p=p%26q", "SET AR OK in=12000 out=48000", "SET ident_user=a%26b", "SET little-endian",
		"SET mod=iq low_cut=-5900 high_cut=5900 freq=28100.000", "SET agc=0", "manGain=70", "SET compression=0", "SET keepalive",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("want %q in what was said:\n%s", want, said)
		}
	}
	if strings.Contains(info.Source, "p%26q") || len(other.Kicked()) > 0 {
		t.Errorf("source %s, kicked: %v", info.Source, other.Kicked())
	}
	if info.Range.LowHz < 116e6 || info.Range.HighHz > 146e6 || info.Tuning.CenterHz != 144.1e6 || info.Tuning.SampleRateHz != 12001.135 {
		t.Errorf("got %+v", info)
	}
	if !slices.Contains(info.Notes, "stands at (47.17, 8.53), 440 m") || !strings.Contains(info.Hardware, "firmware 1.843") {
		t.Errorf("got %+v", info)
	}
}

func TestKiwiSDR_OutOfReach(t *testing.T) {
	t.Parallel()
	rx := newSource(t, "kiwi://"+(&radiotest.Kiwi{}).Start(t)+"?center=145.5M")
	defer rx.Close()
	_, err := rx.Open(t.Context())
	if faults := radio.Faults(err); len(faults) != 1 || faults[0].Field != "center" {
		t.Errorf("got %v, want a fault of the centre", err)
	}
}

func TestKiwiSDR_Level(t *testing.T) {
	t.Parallel()
	tone := make([]int16, 0, 1024)
	for i := range 512 {
		s, c := math.Sincos(2 * math.Pi * float64(i) / 64)
		tone = append(tone, int16(math.Round(3276.7*c)), int16(math.Round(3276.7*s)))
	}
	rx := newKiwi(t, &radiotest.Kiwi{SMeterDBm: -73, Frames: func(int, float64) (radiotest.KiwiFrame, bool) {
		return radiotest.KiwiFrame{IQ: tone}, true
	}}, "")
	b := firstBlock(t, rx)
	for range 40 {
		if err := rx.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Tuning.FullScaleDBm; math.Abs(got-(-53)) > 0.1 {
		t.Errorf("a tone of -20 dBFS that the S-meter shows as -73 dBm makes full scale %.2f dBm, want -53", got)
	}
}

func TestKiwiSDR_Silence(t *testing.T) {
	for name, k := range map[string]*radiotest.Kiwi{"nothing": {Mute: true}, "one byte a second": {Trickle: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rx := newKiwi(t, k, "")
			defer rx.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := rx.Open(ctx)
			for b := (radio.Block{}); err == nil; {
				err = rx.Read(ctx, &b)
			}
			if ctx.Err() != nil {
				t.Errorf("still waiting after 30 s: %v", err)
			}
		})
	}
}

func TestKiwiSDR_Facts(t *testing.T) {
	t.Parallel()
	k := &radiotest.Kiwi{Status: map[string]string{"name": "Hut", "sw_version": "KiwiSDR_v1.843", "users": "2", "users_max": "8", "gps": "(47.17, 8.53)"}}
	found, err := radio.Probe(t.Context(), "kiwi://"+k.Start(t), radio.Options{}, time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	facts := fmt.Sprint(found.Facts)
	if !strings.Contains(facts, "{users 2 of 8}") || !strings.Contains(facts, "{name Hut}") || found.Samples < 6000 || found.TimeQuality.Short() != "gnss" {
		t.Errorf("got %+v", found)
	}
}

// Where nobody has said where a receiver is, the place of its maker and the one in Antarctica are none.
func TestKiwiSDR_Nowhere(t *testing.T) {
	t.Parallel()
	k := &radiotest.Kiwi{Status: map[string]string{"name": "Hut", "gps": "(-69.0, 90.0)"}}
	found, err := radio.Probe(t.Context(), "kiwi://"+k.Start(t), radio.Options{}, 300*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	if facts := fmt.Sprint(found.Facts); !strings.Contains(facts, "{name Hut}") || strings.Contains(facts, "{place ") {
		t.Errorf("got %s", facts)
	}
}
