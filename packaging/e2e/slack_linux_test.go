package e2e_test

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withSlack has the programs that start starts inherit a timer slack, as those of a unit with TimerSlackNSec do.
func withSlack(t testing.TB, slack time.Duration, start func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	set := func(ns uintptr) {
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, ns, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	set(uintptr(slack))
	defer set(uintptr(before))
	start()
}
