//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processor is its name and how many there are.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // none: the name is missing
	name := "unknown processor"
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			name = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %d cores", name, runtime.NumCPU())
}

// load is how many threads wanted to run in the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg") // none: unknown
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// threadTime is how long the calling thread has computed.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
