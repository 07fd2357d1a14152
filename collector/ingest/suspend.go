package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// How long a station is suspended: the first time, and at most. Each time is twice as long as the one before, unless that has been
// over for longer than calmAfter.
const (
	suspendFirst = time.Minute
	suspendMax   = time.Hour
	calmAfter    = time.Hour
	// reviewEvery is how soon a collector knows what others, or an operator, decided.
	reviewEvery = 5 * time.Second
)

// Suspensions keeps which stations are suspended, for all collectors that share a database.
type Suspensions interface {
	Suspend(ctx context.Context, s protocol.Suspension) error
	// Suspensions lists the latest one of each station, also where it is over.
	Suspensions(ctx context.Context) ([]protocol.Suspension, error)
}

// warden counts what is rejected of each station, and has nothing read of one for a while when it is too much: the records of
// one that goes on so would cost all others their share of the database. Its agent keeps what is not acknowledged.
type warden struct {
	perMinute, perHour float64
	log                *slog.Logger
	// wake says that there is something to save. Capacity 1: one notice is as good as many.
	wake chan struct{}

	mu        sync.Mutex // guards the rest
	counts    map[string]*[2]bucket
	suspended map[string]protocol.Suspension // the latest of each station
	ended     map[string]bool                // stations whose latest one is over, and was told of
	unsaved   map[string]protocol.Suspension
	total     uint64
}

func newWarden(limits Limits, log *slog.Logger) *warden {
	return &warden{
		perMinute: limits.RejectedPerMinute, perHour: limits.RejectedPerHour, log: log, wake: make(chan struct{}, 1),
		counts: make(map[string]*[2]bucket), suspended: make(map[string]protocol.Suspension), ended: make(map[string]bool),
		unsaved: make(map[string]protocol.Suspension),
	}
}

// holds tells whether nothing is read of a station at the moment.
func (w *warden) holds(station string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.suspended[station].Until.After(now)
}

// honest tells whether a station may mean well that sends such records: its clock is wrong, or its agent newer than this collector.
// They cost what good ones cost, and no rest mends them: to suspend it would only keep its good ones back.
func honest(err error) bool {
	e, ok := errors.AsType[*protocol.Error](err)
	return ok && (e.Code == protocol.CodeAbsurdTime || e.Code == protocol.CodeUnknownKind)
}

// note counts a rejection.
func (w *warden) note(station string, err error, now time.Time) {
	if honest(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspended[station].Until.After(now) {
		return
	}
	count := w.countOf(station, now)
	if count == nil {
		return
	}
	count[0].use(1, now)
	count[1].use(1, now)
	var limit string
	switch {
	case count[0].wait(now) > 0:
		limit = fmt.Sprintf("%.0f records a minute", w.perMinute)
	case count[1].wait(now) > 0:
		limit = fmt.Sprintf("%.0f records an hour", w.perHour)
	default:
		return
	}
	delete(w.counts, station) // it begins afresh afterwards
	w.suspend(station, "more than "+limit+" were rejected, the last one for "+shorten(reason(err)), now)
}

// mostReason is as much of a reason as fits a line.
const mostReason = 200

func shorten(s string) string {
	if r := []rune(s); len(r) > mostReason {
		return string(r[:mostReason]) + "…"
	}
	return s
}

// countOf finds or makes a station's buckets; nil when there are too many stations.
func (w *warden) countOf(station string, now time.Time) *[2]bucket {
	if count := w.counts[station]; count != nil {
		return count
	}
	if len(w.counts) >= maxLanes {
		for name, c := range w.counts {
			if c[1].tokens(now) >= c[1].size {
				delete(w.counts, name)
			}
		}
		if len(w.counts) >= maxLanes {
			return nil
		}
	}
	count := &[2]bucket{newBucket(w.perMinute/time.Minute.Seconds(), time.Minute, now), newBucket(w.perHour/time.Hour.Seconds(), time.Hour, now)}
	w.counts[station] = count
	return count
}

func (w *warden) suspend(station, why string, now time.Time) {
	s := protocol.Suspension{Station: station, Since: now, Times: 1, Reason: why}
	if before := w.suspended[station]; now.Sub(before.Until) < calmAfter {
		s.Times = before.Times + 1
	}
	length := suspendMax
	if s.Times < 7 {
		length = min(suspendMax, suspendFirst<<(s.Times-1))
	}
	s.Until = now.Add(length)
	w.suspended[station], w.unsaved[station] = s, s
	delete(w.ended, station)
	w.total++
	w.log.Warn("a station is suspended: nothing is read of it for a while, and it keeps what it has",
		"station", station, "until", s.Until.UTC().Format(time.RFC3339), "times", s.Times, "reason", why)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// counted tells how often stations were suspended by this collector, and how many are.
func (w *warden) counted(at time.Time) (total uint64, now int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.suspended {
		if s.Until.After(at) {
			now++
		}
	}
	return w.total, now
}

// review takes over what the database has, and tells the log of those that are over. What is not saved yet is newer.
func (w *warden) review(saved []protocol.Suspension, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := make(map[string]protocol.Suspension, len(saved))
	for _, s := range saved {
		known[s.Station] = s
	}
	for station, s := range w.unsaved {
		known[station] = s
	}
	for station, was := range w.suspended {
		is, ok := known[station]
		if !w.ended[station] && (!ok || !is.Until.After(now)) {
			w.log.Info("a station is read again", "station", station, "suspended_s", int(min(now.Sub(was.Since), was.Until.Sub(was.Since)).Seconds()))
		}
	}
	clear(w.ended)
	for station, s := range known {
		if !s.Until.After(now) {
			w.ended[station] = true
		}
	}
	w.suspended = known
}

// unsavedOnes are to be saved.
func (w *warden) unsavedOnes() []protocol.Suspension {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []protocol.Suspension
	for _, s := range w.unsaved {
		list = append(list, s)
	}
	return list
}

func (w *warden) saved(s protocol.Suspension) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsaved[s.Station] == s {
		delete(w.unsaved, s.Station)
	}
}

// watchSuspensions saves them as they come, and looks every few seconds what others decided.
func (g *Ingest) watchSuspensions(ctx context.Context) {
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	for {
		g.saveSuspensions(ctx)
		select {
		case <-ctx.Done():
			return
		case <-g.warden.wake:
		case <-tick.C:
		}
	}
}

func (g *Ingest) saveSuspensions(ctx context.Context) {
	for _, s := range g.warden.unsavedOnes() {
		err := g.cfg.Suspensions.Suspend(ctx, s)
		switch {
		case err == nil:
		case refused(err):
			g.cfg.Log.WarnContext(ctx, "the database refuses to note that a station is suspended", "station", s.Station, "error", err)
		default:
			g.cfg.Log.DebugContext(ctx, "cannot save that a station is suspended, trying again", "station", s.Station, "error", err)
			continue
		}
		g.warden.saved(s)
	}
	list, err := g.cfg.Suspensions.Suspensions(ctx)
	if err != nil {
		g.cfg.Log.DebugContext(ctx, "cannot read which stations are suspended, trying again", "error", err)
		return
	}
	g.warden.review(list, g.cfg.Now())
}
