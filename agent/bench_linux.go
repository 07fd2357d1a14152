package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime gives a function that tells how long the calling thread has computed.
func threadTime() func() time.Duration {
	return func() time.Duration {
		var t unix.Timespec
		if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
			return 0
		}
		return time.Duration(t.Nano())
	}
}
