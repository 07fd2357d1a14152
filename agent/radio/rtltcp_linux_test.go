package radio_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// countedReads is a connection that counts how often it is read.
type countedReads struct {
	*net.TCPConn
	n *atomic.Int64
}

func (c countedReads) Read(b []byte) (int, error) {
	c.n.Add(1)
	return c.TCPConn.Read(b)
}

// TestRTLTCP_ReadsWholeBursts has a network deliver bursts in pieces. Whole bursts wake the reader, two at once where they are
// short; a server that sends in other bursts is read as pieces come.
func TestRTLTCP_ReadsWholeBursts(t *testing.T) {
	for name, c := range map[string]struct {
		rate        string
		burst       int
		least, most float64 // reads a second
	}{
		"two at once":  {"2.4M", 0, 6, 16},
		"one at once":  {"1.024M", 0, 6, 14},
		"other bursts": {"2.4M", 200_000, 50, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{Burst: c.burst, Split: []int{50_000}, Link: 100e6})
			var reads atomic.Int64
			dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, server.Address())
				if err != nil {
					return nil, err
				}
				return countedReads{conn.(*net.TCPConn), &reads}, nil
			}
			r, err := radio.OpenRTLTCPOver(dial, "rtltcp://stick:1234?rate="+c.rate, radio.Options{})
			if err != nil {
				t.Fatal(err)
			}
			start(t, r)
			follow(t, r, time.Second, func(*radio.Block) {}) // until the server is known
			rate := 0.0
			for range 10 { // a busy computer makes pauses of its own
				const window = 2 * time.Second
				before, samples := reads.Load(), 0
				follow(t, r, window, func(b *radio.Block) { samples += b.Samples() })
				rate = float64(reads.Load()-before) / window.Seconds()
				if rate >= c.least && rate <= c.most && samples > 0 {
					return
				}
			}
			t.Errorf("%.0f reads a second, want %v to %v; health %+v", rate, c.least, c.most, r.Health())
		})
	}
}
