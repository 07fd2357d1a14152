package radio_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/agent/radio"
)

const (
	kiwiName = "20171127T104156Z_77500_TEST_iq.wav"
	kiwiRate = 12001.14497
	kiwiTOW  = 124934.171899011 // Monday 10:42:14 GPS, 10:41:56 UTC
)

var kiwiStart = time.Date(2017, 11, 27, 10, 41, 56, 171899011, time.UTC)

// span is what the tests look at of successive blocks of one kind.
type span struct {
	Segment       uint32
	Index         uint64
	Samples       int
	Lost          uint64
	Exact         bool
	StampsRefused bool
}

// spans joins blocks that differ in nothing but where they are.
func spans(blocks []radio.Block) []span {
	var all []span
	for _, b := range blocks {
		s := span{b.Segment, b.Index, b.Samples(), b.LostBefore, b.LostExact, b.Flags&radio.StampsRefused != 0}
		if n := len(all); n > 0 && b.LostBefore == 0 && all[n-1].Segment == s.Segment && all[n-1].StampsRefused == s.StampsRefused {
			all[n-1].Samples += s.Samples
			continue
		}
		all = append(all, s)
	}
	return all
}

func TestKiwi_StaleFirstStampsAreRefused(t *testing.T) {
	for stale := range 4 {
		frames := kiwiFrames(200, kiwiTOW, kiwiRate)
		for i := range stale {
			frames[i].sec -= 568 + 7*i
		}
		info, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, frames)), "")
		if got := info.Tuning.SampleRateHz; math.Abs(got-kiwiRate) > 0.001 {
			t.Errorf("%d stale: fitted rate %.5f Hz, want %.5f", stale, got, kiwiRate)
		}
		first := kiwiStart.Add(time.Duration(float64(stale) * 512 / kiwiRate * 1e9))
		if off := info.FirstStamp.Sub(first).Abs(); off > 2*time.Nanosecond {
			t.Errorf("%d stale: first stamp believed %v, want %v", stale, info.FirstStamp, first)
		}
		if off := blocks[0].Time.Sub(kiwiStart).Abs(); off > 2*time.Nanosecond || !info.Start.Equal(blocks[0].Time) {
			t.Errorf("%d stale: first sample at %v (Info %v), want %v", stale, blocks[0].Time, info.Start, kiwiStart)
		}
		want := []span{{0, 0, 512 * stale, 0, true, true}, {0, uint64(512 * stale), 512 * (200 - stale), 0, true, false}}
		if stale == 0 {
			want = want[1:]
		}
		if diff := cmp.Diff(want, spans(blocks)); diff != "" {
			t.Errorf("%d stale: want (-), got (+):\n%s", stale, diff)
		}
		if !bytes.Equal(raw(blocks), ramp(0, 200*512)) {
			t.Errorf("%d stale: the samples are not those written", stale)
		}
		if blocks[0].TimeQuality.Short() != "gnss" || blocks[0].TimeUncertainty != 50*time.Nanosecond {
			t.Errorf("quality %s, uncertainty %v; want gnss, 50ns", blocks[0].TimeQuality.Short(), blocks[0].TimeUncertainty)
		}
	}
}

func TestKiwi_Gaps(t *testing.T) {
	frames := kiwiFrames(200, kiwiTOW, kiwiRate)
	cut := func(from, to int) []kiwiFrame {
		return append(append([]kiwiFrame(nil), frames[:from]...), frames[to:]...)
	}
	later := func(n, ms int) []kiwiFrame { return kiwiFrames(n, kiwiTOW+float64(ms)/1000, kiwiRate) }
	stepped := append(append([]kiwiFrame(nil), frames[:100]...), later(200, 20)[100:]...) // a step of 20 ms
	bad := append([]kiwiFrame(nil), frames...)
	bad[50].sec += 3
	zero := append([]kiwiFrame(nil), frames...)
	zero[50].sec, zero[50].ns = 0, 0
	back := append(append([]kiwiFrame(nil), frames[:100]...), later(200, -60000)[100:]...)
	old := append([]kiwiFrame(nil), frames...)
	old[100].age = 254

	for _, c := range []struct {
		title  string
		frames []kiwiFrame
		want   []span
	}{
		{"three frames lost", cut(100, 103), []span{{0, 0, 51200, 0, true, false}, {0, 51200 + 1536, 97 * 512, 1536, true, false}}},
		{"two frames after a loss at the end", cut(100, 198), []span{{0, 0, 51200, 0, true, false}, {0, 198 * 512, 1024, 98 * 512, true, false}}},
		{"one frame after a loss at the end", cut(100, 199), []span{{0, 0, 51200, 0, true, false}, {0, 51200, 512, 0, true, true}}},
		// 20 ms are 240.02 samples, no whole frames: the step splits the segment and its length is an estimate.
		{"a step", stepped, []span{{0, 0, 51200, 0, true, false}, {1, 51200 + 240, 51200, 240, false, false}}},
		{"a step back", back, []span{{0, 0, 51200, 0, true, false}, {1, 51200, 51200, 0, true, false}}},
		{"one wrong stamp", bad, []span{{0, 0, 25600, 0, true, false}, {0, 25600, 512, 0, true, true}, {0, 26112, 149 * 512, 0, true, false}}},
		{"one stamp missing", zero, []span{{0, 0, 25600, 0, true, false}, {0, 25600, 512, 0, true, true}, {0, 26112, 149 * 512, 0, true, false}}},
		{"one stamp that calls itself an error", old, []span{{0, 0, 51200, 0, true, false}, {0, 51200, 512, 0, true, true}, {0, 51712, 99 * 512, 0, true, false}}},
	} {
		t.Run(c.title, func(t *testing.T) {
			_, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, c.frames)), "")
			got := spans(blocks)
			if c.title == "a step back" {
				got[1].Exact = true // nothing is known to be lost, exactly or not
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
			for _, b := range blocks {
				if math.Abs(b.Tuning.SampleRateHz-kiwiRate) > 0.01 {
					t.Errorf("index %d: rate %.4f Hz, want %.4f: a fit went across a step", b.Index, b.Tuning.SampleRateHz, kiwiRate)
				}
			}
		})
	}
}

func TestKiwi_WeekRollsOver(t *testing.T) {
	// 2017-12-03 is a Sunday: the week begins at 00:00:00 GPS, 18 s before midnight UTC.
	frames := kiwiFrames(200, 604800-4, kiwiRate)
	_, blocks := play(t, write(t, "20171202T235938Z_77500_TEST_iq.wav", kiwiWAV(12001, frames)), "")
	if got := spans(blocks); len(got) != 1 {
		t.Errorf("the roll-over splits the recording: %+v", got)
	}
	if want := time.Date(2017, 12, 2, 23, 59, 38, 0, time.UTC); blocks[0].Time.Sub(want).Abs() > 2*time.Nanosecond {
		t.Errorf("first sample at %v, want %v", blocks[0].Time, want)
	}
}

func TestKiwi_WeekFromModificationTime(t *testing.T) {
	path := write(t, "noname.wav", kiwiWAV(12001, kiwiFrames(200, kiwiTOW, kiwiRate)))
	if err := os.Chtimes(path, time.Time{}, kiwiStart.Add(30*time.Hour)); err != nil {
		t.Fatal(err)
	}
	info, blocks := play(t, path, "")
	if off := blocks[0].Time.Sub(kiwiStart).Abs(); off > 2*time.Nanosecond {
		t.Errorf("first sample at %v, want %v", blocks[0].Time, kiwiStart)
	}
	// It may have been copied: then it is of any time since there are KiwiSDRs, 2016, and GNSS does not vouch for it.
	if least := 694 * 24 * time.Hour; info.TimeQuality.Short() != "recorded" || blocks[0].TimeQuality.Short() != "recorded" || blocks[0].TimeUncertainty < least {
		t.Errorf("a guessed date is of quality %s ±%v, want recorded and at least ±%v", blocks[0].TimeQuality.Short(), blocks[0].TimeUncertainty, least)
	}
	if len(info.Notes) != 1 || !strings.Contains(info.Notes[0], "modification time") {
		t.Errorf("notes %q, want one about the modification time", info.Notes)
	}
	if !math.IsNaN(info.Tuning.CenterHz) {
		t.Errorf("centre %v Hz, want unknown", info.Tuning.CenterHz)
	}
}

func TestKiwi_StaleFixAndHiddenStamps(t *testing.T) {
	frames := kiwiFrames(50, kiwiTOW, kiwiRate)
	frames[30].age = 70
	if info, _ := play(t, write(t, kiwiName, kiwiWAV(12001, frames)), ""); info.TimeQuality.Short() != "gnss_stale" {
		t.Errorf("a fix 70 s old: quality %s, want gnss_stale", info.TimeQuality.Short())
	}
	hidden := make([]kiwiFrame, 50)
	never := kiwiFrames(50, kiwiTOW, kiwiRate)
	wild := kiwiFrames(50, kiwiTOW, kiwiRate)
	for i := range hidden {
		hidden[i].samples = 512
		never[i].age = 255
		wild[i].sec += i * i
	}
	for _, c := range []struct {
		frames  []kiwiFrame
		refused bool
	}{{hidden, false}, {never, false}, {wild, true}} {
		info, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, c.frames)), "")
		if info.TimeQuality.Short() != "recorded" || !blocks[0].Time.Equal(time.Date(2017, 11, 27, 10, 41, 56, 0, time.UTC)) {
			t.Errorf("without stamps: %v of quality %s, want the name's time and recorded", blocks[0].Time, info.TimeQuality.Short())
		}
		if got := blocks[0].Flags&radio.StampsRefused != 0; got != c.refused {
			t.Errorf("stamps refused: %v, want %v", got, c.refused)
		}
		if len(info.Notes) != 1 || info.Tuning.SampleRateHz != 12001 {
			t.Errorf("notes %q and rate %v, want one and 12001", info.Notes, info.Tuning.SampleRateHz)
		}
	}
}

func TestKiwi_StampsAgainstTheHeader(t *testing.T) {
	// The stamps run at 12030 Hz: each is close to the one before, but not the whole line to the header.
	info, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, kiwiFrames(200, kiwiTOW, 12030))), "")
	if info.TimeQuality.Short() != "recorded" || blocks[0].Flags&radio.StampsRefused == 0 {
		t.Errorf("quality %s, flags %v: want recorded and refused stamps", info.TimeQuality.Short(), blocks[0].Flags)
	}
}

func TestKiwi_JitterAndOutliers(t *testing.T) {
	frames := kiwiFrames(600, kiwiTOW, kiwiRate)
	for i := range frames {
		frames[i].ns += int(60 * math.Sin(float64(i)/9)) // wander of 42 ns rms
		if i%40 == 7 {
			frames[i].ns += 20000 // within the 100 µs that a single stamp may be off
		}
		if frames[i].ns >= 1e9 {
			frames[i].ns -= 1e9
			frames[i].sec++
		}
	}
	info, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, frames)), "")
	if got := info.Tuning.SampleRateHz; math.Abs(got-kiwiRate) > 0.005 {
		t.Errorf("fitted rate %.5f Hz, want %.5f within 0.005", got, kiwiRate)
	}
	if off := blocks[0].Time.Sub(kiwiStart).Abs(); off > 100*time.Nanosecond {
		t.Errorf("first sample %v off", off)
	}
}

// TestKiwi_LongRecordingFitsInBoundedMemory has more stamps than a fit keeps.
func TestKiwi_LongRecordingFitsInBoundedMemory(t *testing.T) {
	frames := kiwiFrames(70000, kiwiTOW, kiwiRate)
	for i := range frames {
		frames[i].samples = 1
		s := kiwiTOW + float64(i)/kiwiRate
		frames[i].sec, frames[i].ns = int(s), int((s-math.Floor(s))*1e9)
	}
	info, blocks := play(t, write(t, kiwiName, kiwiWAV(12001, frames)), "")
	if got := info.Tuning.SampleRateHz; math.Abs(got-kiwiRate) > 0.005 {
		t.Errorf("fitted rate %.5f Hz, want %.5f", got, kiwiRate)
	}
	if len(raw(blocks)) != 4*70000 {
		t.Errorf("%d bytes, want %d", len(raw(blocks)), 4*70000)
	}
}

func TestKiwi_CutShort(t *testing.T) {
	whole := kiwiWAV(12001, kiwiFrames(20, kiwiTOW, kiwiRate))
	info, blocks := play(t, write(t, kiwiName, whole[:len(whole)-1001]), "")
	if got, want := len(raw(blocks)), 20*2048-1001-3; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	if blocks[len(blocks)-1].Flags&radio.OddTail == 0 || len(info.Notes) != 1 {
		t.Errorf("flags %v, notes %q: want an odd tail and one note", blocks[len(blocks)-1].Flags, info.Notes)
	}
}

// TestKiwi_AnchorKeepsTheStamps plays a recording anchored in the past and compares each block with the stamps.
func TestKiwi_AnchorKeepsTheStamps(t *testing.T) {
	path := write(t, kiwiName, kiwiWAV(12001, kiwiFrames(200, kiwiTOW, kiwiRate)))
	synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01T00:00:00Z
		r := newFile(t, path, "anchor=2017-11-27T10:42:00Z@2000-01-01T00:00:00.25Z&every=10s")
		info := start(t, r)
		if !info.Timeline || info.TimeQuality.Short() != "gnss" {
			t.Errorf("Timeline %v, quality %s: want true, gnss", info.Timeline, info.TimeQuality.Short())
		}
		shift := time.Date(2000, 1, 1, 0, 0, 0, 250e6, time.UTC).Sub(time.Date(2017, 11, 27, 10, 42, 0, 0, time.UTC))
		var b radio.Block
		for range 300 {
			if err := r.Read(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			n := int(b.Raw[0]) | int(b.Raw[1])<<8 // samples modulo 32768 name themselves; 200 frames are 102400
			for b.Time.Sub(kiwiStart.Add(shift+time.Duration(b.Segment)*10*time.Second+time.Duration(float64(n)/kiwiRate*1e9))) > time.Second {
				n += 32768
			}
			want := kiwiStart.Add(shift + time.Duration(b.Segment)*10*time.Second + time.Duration(float64(n)/kiwiRate*1e9))
			if off := b.Time.Sub(want).Abs(); off > time.Microsecond {
				t.Fatalf("sample %d of repeat %d at %v, want %v within 1 µs", n, b.Segment, b.Time, want)
			}
		}
	})
}

// realdata is the folder of real recordings beside the project; a test that needs it is skipped without it.
func realdata(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "realdata", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the recording %s is not here", name)
	}
	return path
}

// TestKiwi_RealRecordings: the values of the recordings' own description.
func TestKiwi_RealRecordings(t *testing.T) {
	for _, c := range []struct {
		name   string
		rateHz float64
		first  time.Time
		frames int
	}{
		{"DF0KL", 12001.14497, time.Date(2017, 11, 27, 10, 41, 56, 171899011, time.UTC), 687},
		{"F1JEK", 12001.20192, time.Date(2017, 11, 27, 10, 41, 56, 404513837, time.UTC), 680},
		{"HB9RYZ", 12001.13215, time.Date(2017, 11, 27, 10, 41, 55, 995459620, time.UTC), 691},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, blocks := play(t, realdata(t, fmt.Sprintf("20171127T104156Z_77500_%s_iq.wav", c.name)), "")
			if got := info.Tuning.SampleRateHz; math.Abs(got-c.rateHz) > 0.005 {
				t.Errorf("fitted rate %.5f Hz, want %.5f within 0.005", got, c.rateHz)
			}
			if info.Tuning.CenterHz != 77500 || info.TimeQuality.Short() != "gnss" || info.MaskDC {
				t.Errorf("centre %v Hz, quality %s, DC masked %v; want 77500, gnss, false", info.Tuning.CenterHz, info.TimeQuality.Short(), info.MaskDC)
			}
			if off := info.FirstStamp.Sub(c.first).Abs(); off > 200*time.Nanosecond {
				t.Errorf("first good sample at %v, %v from its stamp", info.FirstStamp, off)
			}
			want := []span{{0, 0, 512, 0, true, true}, {0, 512, 512 * (c.frames - 1), 0, true, false}}
			if diff := cmp.Diff(want, spans(blocks)); diff != "" {
				t.Errorf("want (-), got (+):\n%s", diff)
			}
			if u := blocks[0].TimeUncertainty; u > 200*time.Nanosecond {
				t.Errorf("residual %v, want under 200 ns", u)
			}
		})
	}
}
