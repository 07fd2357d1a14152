//go:build race

package radio_test

import "time"

// losslessFor is short where the race detector makes every byte ten times dearer.
const losslessFor = 2 * time.Minute
