//go:build !faults

package clock

import "time"

func systemWall() func() time.Time { return time.Now }
