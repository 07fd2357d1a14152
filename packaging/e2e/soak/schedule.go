package soak

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
)

// sequence is where an actor draws what happens to it.
func sequence(seed uint64, actor string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(actor))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// between is a duration in a range.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// ending is how a life ends.
type ending string

const (
	byKill      ending = "kill"
	byPause     ending = "pause" // and a kill later
	byStop      ending = "stop"  // as its user would
	byFailpoint ending = "failpoint"
)

// life is one life of a process, from its start to its end.
type life struct {
	lasts     time.Duration
	ending    ending
	paused    time.Duration
	failpoint string // place:n
	down      time.Duration
}

// drawAgentLife is the next life of an agent: most are short.
func drawAgentLife(r *rand.Rand, o Options, places []string) life {
	l := life{lasts: between(r, 50*time.Millisecond, 1500*time.Millisecond), ending: byKill}
	switch dice := r.IntN(100); {
	case dice < 12:
		l.lasts = between(r, 1500*time.Millisecond, 5*time.Second)
	case dice < 18:
		l.lasts = between(r, 5*time.Second, 10*time.Second)
	}
	return drawEnding(r, l, o, places)
}

// drawCollectorLife is the next life of a collector.
func drawCollectorLife(r *rand.Rand, o Options, places []string) life {
	l := life{lasts: between(r, 300*time.Millisecond, 6*time.Second), ending: byKill, down: between(r, 0, time.Second)}
	if r.IntN(10) == 0 {
		l.lasts = between(r, 6*time.Second, 15*time.Second)
	}
	return drawEnding(r, l, o, places)
}

func drawEnding(r *rand.Rand, l life, o Options, places []string) life {
	dice, paused := r.IntN(100), between(r, 200*time.Millisecond, max(time.Second, min(30*time.Second, o.For/20)))
	place, hit := "", 1+r.IntN(3)
	if len(places) > 0 {
		place = places[r.IntN(len(places))]
	}
	switch {
	case dice < 6 && o.has("pauses"):
		l.ending, l.paused = byPause, paused
	case dice < 26 && o.has("failpoints") && place != "":
		l.ending, l.failpoint = byFailpoint, fmt.Sprintf("%s:%d", place, hit)
		l.lasts = max(l.lasts, 3*time.Second)
	case dice < 30 || !o.has("kills"):
		l.ending = byStop
		l.lasts = max(l.lasts, time.Second)
	}
	if !o.has("kills") && l.ending == byStop {
		l.lasts += 5 * time.Second
	}
	return l
}

// outage is what happens to a server, after it worked for a while.
type outage struct {
	after  time.Duration
	pause  bool // else killed
	wiped  bool
	lasts  time.Duration
	length string // for the count
}

func drawOutage(r *rand.Rand, o Options, every time.Duration, long bool) outage {
	out := outage{after: between(r, every/3, every+every/3), lasts: between(r, 0, 2*time.Second), length: "short"}
	dice, wiped := r.IntN(100), r.IntN(3) == 0
	out.wiped = wiped
	longest := max(2*time.Second, min(30*time.Second, o.For/10))
	lasts := between(r, longest/2, longest)
	switch {
	case dice < 25:
		out.pause, out.lasts = true, between(r, 500*time.Millisecond, max(time.Second, min(30*time.Second, o.For/20)))
	case dice < 45 && long:
		out.lasts, out.length = lasts, "long"
	}
	return out
}

// weather is what a link does for a while.
type weather struct {
	name   string
	faults proxy.Faults
	cut    bool
	after  int // bytes until a cut; 0: none
	lasts  time.Duration
}

// drawWeather is what a link does next: half of the time nothing.
func drawWeather(r *rand.Rand) weather {
	w := weather{name: "clear", lasts: between(r, time.Second, 6*time.Second)}
	ms := func(most int) time.Duration { return time.Duration(1+r.IntN(most)) * time.Millisecond }
	switch r.IntN(22) {
	case 0:
		w.name, w.faults = "delay", proxy.Faults{Delay: ms(500), Jitter: ms(300)}
	case 1:
		w.name, w.faults = "slow", proxy.Faults{BytesPerSecond: 2000 + r.IntN(20000), Delay: ms(100)}
	case 2:
		w.name, w.faults = "lossy", proxy.Faults{Loss: 0.3, Delay: ms(50)}
	case 3:
		w.name, w.faults = "one_byte", proxy.Faults{OneByteChunks: true}
	case 4:
		w.name, w.faults = "hold", proxy.Faults{Hold: true}
	case 5:
		w.name, w.faults = "deaf", proxy.Faults{DropUp: true}
	case 6:
		w.name, w.faults = "mute", proxy.Faults{DropDown: true}
	case 7:
		w.name, w.faults = "refuse", proxy.Faults{Refuse: true}
	case 8:
		w.name, w.faults = "blackhole", proxy.Faults{Blackhole: true}
	case 9:
		w.name, w.cut = "cut", true
	case 10:
		w.name, w.after = "cut_after", 1+r.IntN(20000)
	}
	return w
}

// hit is a call of a failpoint in the source.
var hit = regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)

// failpoints are the places in a program's source, in order.
func failpoints(root string) ([]string, error) {
	var places []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range hit.FindAllSubmatch(text, -1) {
			places = append(places, string(m[1]))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the failpoints in %s: %w", root, err)
	}
	slices.Sort(places)
	return slices.Compact(places), nil
}
