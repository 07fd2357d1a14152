package link

import (
	"testing"
	"time"
)

func TestClosures_Suspicious(t *testing.T) {
	minutes := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Minute) }
	for _, c := range []struct {
		name  string
		at    []int // minutes
		known bool
		want  int // how often the rival is asked
	}{
		{"three in ten minutes", []int{0, 4, 9}, false, 0},
		{"four in ten minutes", []int{0, 4, 8, 9}, false, 1},
		{"four in longer", []int{0, 4, 9, 10}, false, 0},
		{"once in ten minutes", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, false, 1},
		{"again after ten minutes", []int{0, 1, 2, 3, 7, 9, 11, 13}, false, 2},
		{"each time when it has answered", []int{0, 20, 40}, true, 3},
	} {
		var closed closures
		asked := 0
		for _, at := range c.at {
			if closed.suspicious(minutes(at), c.known) {
				asked++
			}
		}
		if asked != c.want {
			t.Errorf("%s: asked %d times, want %d", c.name, asked, c.want)
		}
		if len(closed.at) > 11 {
			t.Errorf("%s: %d closures are remembered of ten minutes", c.name, len(closed.at))
		}
	}
}

func TestLink_AwayIsFiveToThirtyMinutes(t *testing.T) {
	l := &Link{cfg: Config{}.withDefaults()}
	shortest, longest := time.Hour, time.Duration(0)
	for range 10000 {
		away := l.away()
		shortest, longest = min(shortest, away), max(longest, away)
	}
	// Uniform over 25 minutes: that 10,000 draws miss the first or last minute is as likely as 0.96^10000.
	if shortest < 5*time.Minute || shortest > 6*time.Minute || longest > 30*time.Minute || longest < 29*time.Minute {
		t.Errorf("between %v and %v", shortest, longest)
	}
}
