package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// batch is what one commit takes.
type batch struct {
	records  []*protocol.Record
	late     []bool // of each record, whether it was older than a minute when it arrived
	rejected []protocol.Rejection
	acks     []func() // of the messages that all this came in
	bytes    int
}

func (b *batch) add(rec *protocol.Record, late bool, bytes int) {
	b.records = append(b.records, rec)
	b.late = append(b.late, late)
	b.bytes += bytes
}

func (b *batch) reject(r protocol.Rejection) {
	b.rejected = append(b.rejected, r)
	b.bytes += len(r.Payload)
}

func (b *batch) empty() bool { return len(b.records) == 0 && len(b.rejected) == 0 && len(b.acks) == 0 }

func (b *batch) full(l Limits) bool {
	return len(b.records)+len(b.rejected) >= l.BatchRecords || b.bytes >= l.BatchBytes || len(b.acks) >= l.BatchRecords
}

// assemble fills batches and hands them to the committer.
func (g *Ingest) assemble(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	b := new(batch)
	for {
		wait := g.fill(b)
		var out chan<- *batch
		wake := g.inbox.wake
		if b.full(g.cfg.Limits) {
			wake = nil // no room: what comes stays in its station's queue
		}
		if !b.empty() {
			due := g.pace.wait(time.Now())
			if due <= 0 || wake == nil {
				out = g.batches
			} else if wait == 0 || due < wait {
				wait = due
			}
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case out <- b:
			b = new(batch)
		case <-wake:
		case <-g.committed:
		case <-timer.C:
		}
	}
}

// fill takes messages until the batch is full or none may be taken. It tells after which time one may, 0 if none waits.
func (g *Ingest) fill(b *batch) (wait time.Duration) {
	for !b.full(g.cfg.Limits) {
		m, ok, wait := g.inbox.take(g.cfg.Now())
		if !ok {
			return wait
		}
		g.open(m, b)
		failpoint.Hit("ingest.decoded")
	}
	return 0
}

// pace spaces the commits: none waits while the database is idle, and when it is not, the wait is twice what the last
// commit took, so that batches grow with the database's slowness and it is left alone two thirds of the time.
type pace struct {
	mu    sync.Mutex // guards the two below
	ended time.Time
	took  time.Duration
}

func (p *pace) note(began, ended time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.took = ended, ended.Sub(began)
}

// wait is how long the next commit should still wait for company.
func (p *pace) wait(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended.Add(min(2*p.took, lingerMax)).Sub(now)
}
