package link

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// retainedWait is how long a broker may take to send what it has retained.
const retainedWait = 2 * time.Second

// Probe connects to the broker with the station's credentials, under another client id so that a running agent keeps its
// session, and tells whether a collector is online.
func Probe(ctx context.Context, cfg Config) (collectorOnline bool, err error) {
	cfg = cfg.withDefaults()
	p, err := open(ctx, cfg, checkID(cfg.Station), func(*mqtt.ClientOptions) {})
	if err != nil {
		return false, err
	}
	filter := protocol.Topics{Prefix: cfg.Prefix}.CollectorStatus("+")
	if err := granted(ctx, p.subscribe(filter), cfg.Timeout); err != nil {
		return false, p.abort(err)
	}
	defer p.leave()
	retained := time.NewTimer(retainedWait)
	defer retained.Stop()
	for {
		select {
		case m := <-p.inbound:
			p.received(m)
			if string(m.payload) == protocol.Online {
				return true, nil
			}
		case end := <-p.lost:
			return false, fmt.Errorf("connection lost: %w", end.err)
		case <-retained.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// checkID is a client id for whoever must not take the station's place.
func checkID(station string) string {
	return "heimdall-check-" + station + "-" + strconv.Itoa(os.Getpid())
}
