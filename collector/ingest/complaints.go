package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// codeRefused is the reason of a record that is right for the protocol and not for the database.
const codeRefused protocol.Code = "refused"

// refusedError says that a record is right for the protocol and not for the database.
type refusedError struct{ error }

func (e refusedError) Error() string { return "the database does not take it: " + e.error.Error() }

func (e refusedError) Unwrap() error { return e.error }

func codeOf(err error) protocol.Code {
	if errors.As(err, new(refusedError)) {
		return codeRefused
	}
	return protocol.CodeOf(err)
}

// complaints tells the log of what is rejected: the first of a station at once, then one line for each interval.
type complaints struct {
	log *slog.Logger

	mu       sync.Mutex // guards stations
	stations map[string]*complaint
}

// complaint is what was rejected of one station since the last line.
type complaint struct {
	count int
	last  []any // of the latest: why, and what it came on
}

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{log: log, stations: make(map[string]*complaint)}
}

// note counts a rejection. The topic may be unknown.
func (c *complaints) note(station, topic string, err error) {
	why := []any{"reason", codeOf(err)}
	if topic != "" {
		why = append(why, "topic", topic)
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Field != "" {
		why = append(why, "field", e.Field)
	}
	why = append(why, "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.stations[station]
	switch {
	case ok:
		known.count++
		known.last = why
	case len(c.stations) < maxLanes: // topics may name any number of stations
		c.stations[station] = new(complaint)
		c.log.Warn("a record is rejected", append([]any{"station", station}, why...)...)
	}
}

// run writes the lines of each interval.
func (c *complaints) run(ctx context.Context) {
	tick := time.NewTicker(complainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.tell(ctx)
		}
	}
}

// tell writes what came since the last time. A station without anything new begins afresh.
func (c *complaints) tell(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for station, known := range c.stations {
		if known.count == 0 {
			delete(c.stations, station)
			continue
		}
		c.log.WarnContext(ctx, "more records are rejected", append([]any{"station", station, "count", known.count}, known.last...)...)
		known.count = 0
	}
}
