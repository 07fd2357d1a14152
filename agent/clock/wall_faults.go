//go:build faults

package clock

import (
	"os"
	"strings"
	"sync"
	"time"
)

// rereadEvery is how soon a new offset is seen.
const rereadEvery = 100 * time.Millisecond

// systemWall is the system's wall clock moved by what the file HEIMDALL_CLOCK_OFFSET_FILE says, a Go duration such as
// -87600h. The file may change at any time; while it is missing or half written, the last offset holds.
func systemWall() func() time.Time {
	path := os.Getenv("HEIMDALL_CLOCK_OFFSET_FILE")
	if path == "" {
		return time.Now
	}
	var (
		mu     sync.Mutex // guards read and offset
		read   time.Time
		offset time.Duration
	)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if read.IsZero() || now.Sub(read) >= rereadEvery {
			read = now
			if text, err := os.ReadFile(path); err == nil {
				if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
					offset = d
				}
			}
		}
		return now.Round(0).Add(offset)
	}
}
