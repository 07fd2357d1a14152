//go:build !linux

package main

import "time"

// threadTime gives a function that tells how much time has passed since: more than the calling thread has computed where others
// compute too.
func threadTime() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}
