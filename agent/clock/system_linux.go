package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// systemElapsed counts suspended time too; began, a monotonic reading, serves where the kernel does not know the clock.
func systemElapsed(began time.Time) func() time.Duration {
	return func() time.Duration {
		var ts unix.Timespec
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
			return time.Since(began)
		}
		return time.Duration(ts.Nano())
	}
}

// kernelClock asks the kernel how well it knows the time.
func kernelClock() (synchronised bool, mostError time.Duration) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return false, 0
	}
	return true, time.Duration(t.Maxerror) * time.Microsecond
}
