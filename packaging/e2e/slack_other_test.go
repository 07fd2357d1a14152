//go:build !linux

package e2e_test

import (
	"testing"
	"time"
)

// withSlack only starts: this system has no such thing.
func withSlack(_ testing.TB, _ time.Duration, start func()) { start() }
