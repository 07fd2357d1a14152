//go:build !race

package radio_test

import "time"

// losslessFor is how much stream must come without a loss.
const losslessFor = 10 * time.Minute
