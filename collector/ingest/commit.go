package ingest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// commitBatches commits one batch after the other.
func (g *Ingest) commitBatches(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-g.batches:
			g.settle(ctx, b)
		}
		select {
		case g.committed <- struct{}{}:
		default:
		}
	}
}

// outcome is what the database made of a batch.
type outcome struct {
	fresh []bool
	acks  map[protocol.Stream]*protocol.Ack
	// received is the time of arrival that the database has; that of the first part of a batch that was taken apart.
	received time.Time
}

// settle sees a batch through: commit, Acks, broker, observers, in this order.
func (g *Ingest) settle(ctx context.Context, b *batch) {
	var out outcome
	if len(b.records)+len(b.rejected) > 0 {
		var ok bool
		if out, ok = g.commit(ctx, b.records, b.rejected); !ok {
			return // ctx ended: nothing is acknowledged, so it comes again
		}
	}
	failpoint.Hit("ingest.committed")
	g.acks.put(out.acks)
	failpoint.Hit("ingest.acked")
	for _, ack := range b.acks {
		ack()
	}

	var fresh []protocol.StoredRecord
	now := g.cfg.Now()
	for i, rec := range b.records {
		if i < len(out.fresh) && out.fresh[i] {
			if !b.late[i] {
				g.delays.Observe(max(0, now.Sub(time.Unix(0, rec.GetTime())).Seconds()))
			}
			fresh = append(fresh, protocol.StoredRecord{Record: rec, Received: out.received, Late: b.late[i]})
		}
	}
	g.counts.records.Add(uint64(len(b.records)))
	g.counts.fresh.Add(uint64(len(fresh)))
	g.counts.repeated.Add(uint64(len(b.records) - len(fresh)))
	g.counts.rejected.Add(uint64(len(b.rejected)))
	if len(fresh) == 0 {
		return
	}
	for _, observe := range g.cfg.Observers {
		observe(ctx, fresh)
	}
}

// commit repeats a commit until the database has taken it or ctx ends, and takes apart what the database will never take.
func (g *Ingest) commit(ctx context.Context, records []*protocol.Record, rejected []protocol.Rejection) (outcome, bool) {
	var complained time.Time
	for attempt := 0; ; attempt++ {
		out, err := g.tryCommit(ctx, records, rejected)
		switch {
		case err == nil:
			g.recovered(ctx, attempt)
			return out, true
		case ctx.Err() != nil:
			return outcome{}, false
		case refused(err):
			g.recovered(ctx, attempt)
			return g.takeApart(ctx, records, rejected, err)
		}
		g.counts.retries.Add(1)
		g.trouble.Store(&err)
		if now := time.Now(); now.Sub(complained) >= complainEvery {
			complained = now
			g.cfg.Log.WarnContext(ctx, "the database takes no records, trying again",
				"error", err, "attempts", attempt+1, "records", len(records), "waiting_bytes", g.inbox.waiting())
		}
		select {
		case <-ctx.Done():
			return outcome{}, false
		case <-time.After(backoff(attempt)):
		}
	}
}

// refused tells whether the database will never take what it was given.
func refused(err error) bool {
	var verdict interface{ OneRecord() bool }
	return errors.As(err, &verdict) && verdict.OneRecord()
}

func (g *Ingest) tryCommit(ctx context.Context, records []*protocol.Record, rejected []protocol.Rejection) (outcome, error) {
	limited, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	began := time.Now()
	g.trying.Store(&began)
	defer g.trying.Store(nil)
	received := g.cfg.Now()
	fresh, acks, err := g.cfg.Sink.Commit(limited, received, records, rejected)
	g.pace.note(began, time.Now())
	if err != nil {
		return outcome{}, err
	}
	g.counts.commits.Add(1)
	return outcome{fresh, acks, received}, nil
}

func (g *Ingest) recovered(ctx context.Context, attempts int) {
	if g.trouble.Swap(nil) != nil {
		g.cfg.Log.InfoContext(ctx, "the database takes records again", "attempts", attempts+1)
	}
}

// takeApart finds what the database refuses by halving, so that the rest is committed: a record that is refused alone
// becomes a rejection, and a rejection that is refused alone loses first its payload, then its place.
func (g *Ingest) takeApart(ctx context.Context, records []*protocol.Record, rejected []protocol.Rejection, why error) (outcome, bool) {
	switch {
	case len(records) > 0 && len(rejected) > 0:
		return g.both(ctx, records, nil, nil, rejected)
	case len(records) > 1:
		half := len(records) / 2
		return g.both(ctx, records[:half], nil, records[half:], nil)
	case len(records) == 1:
		rec := records[0]
		why = refusedError{why}
		g.rejected(rec.GetStation(), "", why)
		out, ok := g.commit(ctx, nil, []protocol.Rejection{{
			Station: rec.GetStation(), Spool: rec.GetSpool(), Seq: rec.GetSeq(), Kind: rec.Kind(), Time: rec.GetTime(),
			Reason: reason(why), Payload: cut(encoded(rec)),
		}})
		out.fresh = []bool{false}
		g.counts.rejected.Add(1)
		return out, ok
	case len(rejected) > 1:
		half := len(rejected) / 2
		return g.both(ctx, nil, rejected[:half], nil, rejected[half:])
	case len(rejected) == 1 && len(rejected[0].Payload) > 0:
		bare := rejected[0]
		bare.Payload = nil
		return g.commit(ctx, nil, []protocol.Rejection{bare})
	}
	g.cfg.Log.ErrorContext(ctx, "the database refuses even to note that something was refused",
		"station", rejected[0].Station, "reason", rejected[0].Reason, "error", why)
	return outcome{}, true
}

// both commits two parts, one after the other.
func (g *Ingest) both(ctx context.Context, records1 []*protocol.Record, rejected1 []protocol.Rejection, records2 []*protocol.Record, rejected2 []protocol.Rejection) (outcome, bool) {
	first, ok := g.commit(ctx, records1, rejected1)
	if !ok {
		return outcome{}, false
	}
	second, ok := g.commit(ctx, records2, rejected2)
	if !ok {
		return outcome{}, false
	}
	acks := make(map[protocol.Stream]*protocol.Ack, len(first.acks)+len(second.acks))
	maps.Copy(acks, first.acks)
	maps.Copy(acks, second.acks) // the later one contains the earlier one
	return outcome{append(first.fresh, second.fresh...), acks, cmp.Or(first.received, second.received)}, true
}

// backoff is full jitter: anything up to a limit that doubles.
func backoff(attempt int) time.Duration {
	limit := backoffMax
	if attempt < 9 {
		limit = min(limit, backoffFirst<<attempt)
	}
	return time.Duration(rand.Int64N(int64(limit))) + time.Millisecond
}
