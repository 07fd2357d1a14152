package clock

import (
	"runtime/debug"
	"time"
)

// oldest is a day before which no program with this code was built, for builds that do not know their own.
var oldest = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// BuildDate is when the code that the program was built from was written: the time of its commit, which the Go tool embeds,
// else the day below which no build can be.
func BuildDate() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return oldest
	}
	return buildDate(info.Settings)
}

func buildDate(settings []debug.BuildSetting) time.Time {
	for _, s := range settings {
		if s.Key != "vcs.time" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, s.Value); err == nil && t.After(oldest) {
			return t.UTC()
		}
	}
	return oldest
}
