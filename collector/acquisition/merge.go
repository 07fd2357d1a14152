package acquisition

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// ahead is an acquisition that has not started.
type ahead struct {
	id    string
	start time.Time
}

// sameness is what two acquisitions have in common whose captures would be the same: all of the request, also the label by
// which somebody looks for it, and the stations that were meant.
func sameness(a *protocol.Acquisition) string {
	text, err := json.Marshal(a.Request)
	if err != nil {
		return a.ID // it is like no other; the store refuses it
	}
	key := string(text)
	for _, s := range a.Stations {
		key += " " + s.Station
	}
	return key
}

// merge finds which wishes ask the same as one before them, or as an acquisition, whose start is still ahead. It gives the
// others.
func (c *Conductor) merge(ctx context.Context, wishes []*wish, now time.Time) (fresh []*wish) {
	first := make(map[string]*wish)
	for _, w := range wishes {
		if !timeOf(w.made.StartTime).After(now) {
			fresh = append(fresh, w) // what has passed is captured as often as it is asked for
			continue
		}
		key := sameness(w.made)
		if w.same = first[key]; w.same != nil {
			continue
		}
		first[key] = w
		if a := c.join(ctx, key, now); a != nil {
			w.made = a
			continue
		}
		fresh = append(fresh, w)
	}
	return fresh
}

// join is the acquisition that is to be captured for a sameness; nil when there is none.
func (c *Conductor) join(ctx context.Context, key string, now time.Time) (found *protocol.Acquisition) {
	c.mu.Lock()
	other, ok := c.ahead[key]
	c.mu.Unlock()
	if !ok || !other.start.After(now) {
		return nil
	}
	err := c.cfg.Store.UpdateAcquisitions(ctx, []string{other.id}, func(a *protocol.Acquisition) bool {
		found = a
		return false
	})
	if err != nil || found == nil || settled(found) || found.CancelRequested != "" {
		return nil
	}
	return found
}

// offer has others join an acquisition until its start.
func (c *Conductor) offer(a *protocol.Acquisition) {
	start := timeOf(a.StartTime)
	if settled(a) || a.CancelRequested != "" || !start.After(c.cfg.Now()) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead[sameness(a)] = ahead{a.ID, start}
}

// started forgets those that nobody can join any more. mu must be held.
func (c *Conductor) started(now time.Time) {
	for key, other := range c.ahead {
		if !other.start.After(now) {
			delete(c.ahead, key)
		}
	}
}
