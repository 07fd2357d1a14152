package clock

import (
	"runtime/debug"
	"testing"
	"time"
)

func TestBuildDate(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2027-03-04T05:06:07Z": time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC), "2001-01-01T00:00:00Z": oldest, "yesterday": oldest, "": oldest,
	} {
		if got := buildDate([]debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.time", Value: text}}); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if got := BuildDate(); got.Before(oldest) {
		t.Errorf("built %v, before the code was written", got)
	}
}
