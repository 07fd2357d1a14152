//go:build faults

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// armed is what HEIMDALL_FAILPOINT asks for; an empty place when it asks for nothing.
var armed = sync.OnceValue(func() (p struct {
	place string
	at    int64
},
) {
	setting := os.Getenv("HEIMDALL_FAILPOINT")
	if setting == "" {
		return p
	}
	place, at, _ := strings.Cut(setting, ":")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n < 1 {
		panic(fmt.Sprintf("HEIMDALL_FAILPOINT=%q: write place:n, with n from 1", setting))
	}
	p.place, p.at = place, n
	return p
})

var hits atomic.Int64

// Hit marks a place, and ends the process when this is the hit that HEIMDALL_FAILPOINT asks for.
func Hit(place string) {
	if p := armed(); p.place == place && hits.Add(1) == p.at {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			panic(err)
		}
		select {}
	}
}
