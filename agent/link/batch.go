package link

import (
	"fmt"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// gather is how long a batch waits for more records.
	gather = 20 * time.Millisecond
	// batchRate: above so many records a second, live ones go in batches too.
	batchRate = 50
	// batchBytes bounds a batch before compression, so that it fits a message also when nothing can be compressed.
	batchBytes = 120 << 10
	// largeRecord: records from this size on go by themselves; a batch saves them nothing.
	largeRecord = 8 << 10
)

// take puts a record on its way, alone or in a batch.
func (s *session) take(item Item) {
	now := time.Now()
	busy := s.busy(now)
	out := outgoing{
		key:    key{item.Spool, item.Seq},
		kind:   item.Kind,
		sealed: protocol.Seal(item.Payload, item.Spool, item.Seq),
	}
	alone := s.cfg.JSON || s.cfg.Single || s.link.suspects[out.key] > 0 || len(out.sealed) >= largeRecord || !busy && !item.Backlog
	if alone {
		s.sendAll([]outgoing{out}, now)
		return
	}
	if len(s.batch.records) > 0 && s.batch.bytes+len(out.sealed) > min(batchBytes, s.window.limitBytes()) {
		s.flush()
	}
	s.batch.add(out)
	if len(s.batch.records) >= protocol.MaxBatchRecords {
		s.flush()
	}
}

// busy tells whether records come faster than batchRate, counting this one.
func (s *session) busy(now time.Time) bool {
	s.pace = append(s.pace, now)
	if len(s.pace) <= batchRate {
		return false
	}
	s.pace = s.pace[1:]
	return now.Sub(s.pace[0]) < time.Second
}

// flush sends the batch that was gathered.
func (s *session) flush() {
	records := s.batch.records
	s.batch.clear()
	if len(records) > 0 {
		s.sendAll(records, time.Now())
	}
}

// sendAll sends records in one message, or in two halves where one would be too large.
func (s *session) sendAll(records []outgoing, now time.Time) {
	m := &message{records: records, waits: max(0, s.link.suspects[records[0].key]-1)}
	if err := s.encode(m); err != nil {
		if len(records) > 1 {
			s.sendAll(records[:len(records)/2], now)
			s.sendAll(records[len(records)/2:], now)
			return
		}
		s.refuse(records[0], err.Error())
		return
	}
	s.sendMessage(m, now)
}

func (s *session) sendMessage(m *message, now time.Time) {
	s.window.send(m, now)
	s.link.sent.Add(uint64(len(m.records)))
	s.dispatch(dispatch{topic: m.topic, payload: m.payload, qos: 1, message: m, order: m.order})
}

// encode makes the payload of a message from its records.
func (s *session) encode(m *message) (err error) {
	if len(m.records) > 1 {
		sealed := make([][]byte, len(m.records))
		for i, r := range m.records {
			sealed[i] = r.sealed
		}
		m.topic = s.link.topics.Batch(s.cfg.Station)
		m.payload, err = protocol.EncodeBatch(sealed)
		return err
	}
	r := m.records[0]
	m.topic, m.payload = s.link.topics.Record(s.cfg.Station, r.kind), protocol.WithoutStation(r.sealed, s.cfg.Station)
	if s.cfg.JSON {
		rec, err := protocol.Decode(r.sealed)
		if err != nil {
			return fmt.Errorf("encode as JSON: %w", err)
		}
		if m.payload, err = protocol.MarshalJSON(rec); err != nil {
			return fmt.Errorf("encode as JSON: %w", err)
		}
	}
	if len(m.payload) > protocol.MaxMessageBytes {
		return fmt.Errorf("%d bytes: a message holds at most %d", len(m.payload), protocol.MaxMessageBytes)
	}
	return nil
}

// batch gathers records for one message.
type batch struct {
	records []outgoing
	bytes   int
	timing  *time.Timer
}

func (b *batch) add(out outgoing) {
	if len(b.records) == 0 {
		b.timing = time.NewTimer(gather)
	}
	b.records = append(b.records, out)
	b.bytes += len(out.sealed)
}

func (b *batch) clear() {
	if b.timing != nil {
		b.timing.Stop()
	}
	*b = batch{}
}

// timer fires when the batch has waited long enough; never while it is empty.
func (b *batch) timer() <-chan time.Time {
	if b.timing == nil {
		return nil
	}
	return b.timing.C
}
