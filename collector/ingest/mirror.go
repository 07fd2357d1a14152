package ingest

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/fulgidus/heimdall/protocol"
)

// mirrorQueue is how many records may wait for the mirror. When it is full the newest are not mirrored, and counted: the
// mirror is a live view, and the database has them.
const mirrorQueue = 8192

// OncePublisher sends a message that may be lost.
type OncePublisher interface {
	PublishOnce(ctx context.Context, topic string, payload []byte) error
}

// Mirror publishes every new record in JSON, for those who read no protobuf. IQ is not mirrored, because of its size, nor
// is a station's exact place, which no subscriber may read.
type Mirror struct {
	topics  protocol.Topics
	to      OncePublisher
	log     *slog.Logger
	queue   chan protocol.StoredRecord // capacity mirrorQueue
	dropped atomic.Uint64
}

// NewMirror makes a mirror; Run publishes.
func NewMirror(topics protocol.Topics, to OncePublisher, log *slog.Logger) *Mirror {
	return &Mirror{topics: topics, to: to, log: log, queue: make(chan protocol.StoredRecord, mirrorQueue)}
}

// Observe is an Observer. It never waits.
func (m *Mirror) Observe(_ context.Context, fresh []protocol.StoredRecord) {
	for _, rec := range fresh {
		switch rec.Record.Kind() {
		case protocol.KindIQ, protocol.KindSite:
			continue
		case protocol.KindMeasurement, protocol.KindSpectrum, protocol.KindDetection, protocol.KindHealth, protocol.KindGap, protocol.KindReply:
		}
		select {
		case m.queue <- rec:
		default:
			m.dropped.Add(1)
		}
	}
}

// Dropped counts the records that were not mirrored because the broker was too slow or away.
func (m *Mirror) Dropped() uint64 { return m.dropped.Load() }

// Run publishes until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case rec := <-m.queue:
			if err := m.publish(ctx, rec); err != nil && ctx.Err() == nil {
				m.dropped.Add(1)
				m.log.DebugContext(ctx, "cannot mirror a record", "station", rec.Record.GetStation(), "error", err)
			}
		}
	}
}

func (m *Mirror) publish(ctx context.Context, rec protocol.StoredRecord) error {
	payload, err := mirrored(rec)
	if err != nil {
		return err
	}
	return m.to.PublishOnce(ctx, m.topics.JSON(rec.Record.GetStation(), rec.Record.Kind()), payload)
}

// mirrored is the record's JSON form, with late: true when it was older than a minute on arrival.
func mirrored(rec protocol.StoredRecord) ([]byte, error) {
	payload, err := protocol.MarshalJSON(rec.Record)
	if err != nil {
		return nil, err
	}
	if !rec.Late {
		return payload, nil
	}
	return protocol.AppendMembers(payload, protocol.Member{Name: "late", Value: true})
}
