package radio

import (
	"os"
	"time"
)

// readable lets a read wait for as long as it takes: it cannot be broken off.
func readable(*os.File, time.Duration) (bool, error) { return true, nil }
