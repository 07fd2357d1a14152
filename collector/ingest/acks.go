package ingest

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	ackRetry = time.Second
	// Acks under way to the broker at once: enough to hide its answering time, few enough for its window.
	acksAtOnce = 16
)

// ackBoard holds the newest Ack of each spool until it is published. An Ack contains all earlier ones of its spool, so
// under load those that were overtaken are never sent. Where a spool has more holes than an Ack has room for, what an
// overtaken one told is sent again by whoever waits for it.
type ackBoard struct {
	// wake says that there is something to publish. Capacity 1: one notice is as good as many.
	wake chan struct{}

	mu      sync.Mutex // guards the two below
	pending map[protocol.Stream]*protocol.Ack
	all     bool // those of all known spools are wanted
}

func newAckBoard() *ackBoard {
	return &ackBoard{wake: make(chan struct{}, 1), pending: make(map[protocol.Stream]*protocol.Ack)}
}

func (b *ackBoard) put(acks map[protocol.Stream]*protocol.Ack) {
	if len(acks) == 0 {
		return
	}
	b.mu.Lock()
	maps.Copy(b.pending, acks)
	b.mu.Unlock()
	b.notify()
}

func (b *ackBoard) wantAll() {
	b.mu.Lock()
	b.all = true
	b.mu.Unlock()
}

// putBack keeps what could not be published, unless something newer has come.
func (b *ackBoard) putBack(stream protocol.Stream, ack *protocol.Ack) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.pending[stream]; !ok {
		b.pending[stream] = ack
	}
}

func (b *ackBoard) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *ackBoard) take() (pending map[protocol.Stream]*protocol.Ack, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pending, all = b.pending, b.all
	b.pending, b.all = make(map[protocol.Stream]*protocol.Ack), false
	return pending, all
}

// publishAcks publishes Acks as they come, and all of them when asked to.
func (g *Ingest) publishAcks(ctx context.Context) {
	for {
		var retry <-chan time.Time
		if !g.publishPending(ctx) {
			retry = time.After(ackRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.acks.wake:
		case <-retry:
		}
	}
}

// publishPending tells whether all could be published.
func (g *Ingest) publishPending(ctx context.Context) bool {
	pending, all := g.acks.take()
	done := true
	if all {
		known, err := g.cfg.Known.Acks(ctx)
		if err != nil {
			g.cfg.Log.DebugContext(ctx, "cannot read what is settled, trying again", "error", err)
			g.acks.wantAll()
			done = false
		}
		for stream, ack := range known {
			if _, newer := pending[stream]; !newer {
				pending[stream] = ack
			}
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, acksAtOnce) // full: the next one waits for one to be done
	failed := make(chan protocol.Stream, len(pending))
	for stream, ack := range pending {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := g.publishAck(ctx, stream, ack); err != nil {
				g.cfg.Log.DebugContext(ctx, "cannot publish an acknowledgement, trying again", "station", stream.Station, "error", err)
				failed <- stream
			}
		})
	}
	wg.Wait()
	close(failed)
	for stream := range failed {
		g.acks.putBack(stream, pending[stream])
		done = false
	}
	return done
}

func (g *Ingest) publishAck(ctx context.Context, stream protocol.Stream, ack *protocol.Ack) error {
	topic := g.cfg.Topics.Ack(stream.Station, stream.Spool)
	if ack == nil {
		return g.cfg.Publisher.Publish(ctx, topic, true, nil)
	}
	if ack.Collector == nil && g.cfg.Collector != "" {
		ack.Collector = &g.cfg.Collector
	}
	payload, err := protocol.Encode(ack)
	if err != nil {
		return err
	}
	if err := g.cfg.Publisher.Publish(ctx, topic, true, payload); err != nil {
		return err
	}
	failpoint.Hit("ingest.ack_published")
	return nil
}
