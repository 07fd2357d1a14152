package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

// publisher puts records into the spool under the station's name. It is what surveys and the recorder write to.
type publisher struct {
	station string
	spool   *spool.Spool
	clock   *clock.Clock
	held    *held // what waits for the clock

	daily   *quota.Budget // nil: any amount may be sent
	thinner *quota.Thinner
}

// Publish queues a record and returns its id; it does not wait for the disk. A record that has to wait for the clock gets
// its id later, and the one returned stands for it. One that the day's bytes have no room for gets none.
func (p publisher) Publish(ctx context.Context, r *protocol.Record) (string, error) {
	if p.thinner != nil {
		if r = p.thinner.Take(r); r == nil {
			return "", nil
		}
	}
	return p.held.publish(ctx, r)
}

// Put queues a record and returns once it, and all before it, is on disk. It does not wait for the clock.
func (p publisher) Put(ctx context.Context, r *protocol.Record) error {
	kind, payload, err := p.encode(r)
	if err != nil {
		return err
	}
	if _, err := p.enter(ctx, kind, payload, true); err != nil {
		return fmt.Errorf("spool a %s: %w", kind, err)
	}
	return nil
}

// Queue is Publish for those who need no id.
func (p publisher) Queue(ctx context.Context, r *protocol.Record) error {
	_, err := p.Publish(ctx, r)
	return err
}

// store queues a record as it is. Durable waits for the disk as long as the context lasts; the record is queued then too.
func (p publisher) store(ctx context.Context, r *protocol.Record, durable bool) (string, error) {
	kind, payload, err := p.encode(r)
	if err != nil {
		return "", err
	}
	seq, err := p.enter(ctx, kind, payload, durable)
	if queued := seq != 0 && ctx.Err() != nil && errors.Is(err, ctx.Err()); err != nil && !queued {
		return "", fmt.Errorf("spool a %s: %w", kind, err)
	}
	return fmt.Sprintf("%s-%x-%d", p.station, p.spool.Identity(), seq), nil
}

// enter is the only way into the spool.
func (p publisher) enter(ctx context.Context, kind protocol.Kind, payload []byte, durable bool) (uint64, error) {
	put := p.spool.Queue
	if durable {
		put = p.spool.Put
	}
	given := oracle.Give(p.spool, kind, payload)
	seq, err := put(ctx, spool.LaneOf(kind), kind, payload)
	given.Took(seq, durable && err == nil)
	if p.daily != nil && seq != 0 {
		p.daily.Stored(seq, len(payload))
	}
	return seq, err
}

func (p publisher) encode(r *protocol.Record) (protocol.Kind, []byte, error) {
	r.Station = proto.String(p.station)
	payload, err := protocol.Encode(r)
	if err != nil {
		return "", nil, fmt.Errorf("encode a %s: %w", r.Kind(), err)
	}
	return r.Kind(), payload, nil
}
