//go:build !linux

package main

import (
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// systemClock cannot ask this system how well it knows the time.
func systemClock(unsynchronised time.Duration) (protocol.TimeQuality, time.Duration) {
	return protocol.TimeQuality_TIME_QUALITY_SYSTEM, unsynchronised
}
