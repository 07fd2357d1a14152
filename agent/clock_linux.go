package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/fulgidus/heimdall/protocol"
)

// systemClock asks the kernel how well it knows the time. A kernel that does not call itself synchronised is usual in
// containers and virtual machines: its clock is plausible, to the configured uncertainty.
func systemClock(unsynchronised time.Duration) (protocol.TimeQuality, time.Duration) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return protocol.TimeQuality_TIME_QUALITY_SYSTEM, unsynchronised
	}
	return protocol.TimeQuality_TIME_QUALITY_NTP, time.Duration(t.Maxerror) * time.Microsecond
}
