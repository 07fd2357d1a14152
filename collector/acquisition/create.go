package acquisition

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// wish is a request on its way into the store.
type wish struct {
	req  protocol.AcquisitionRequest
	fit  bool // shorten it to what fits, in place of refusing it
	made *protocol.Acquisition
	err  error
	same *wish         // that came before and asks the same; nil: none
	done chan struct{} // closed when made or err is set
}

// Create checks a request, stores it and sends the stations their commands. Faults of the request are
// protocol.FieldErrors, all at once.
//
// One that asks the same as another whose start is still ahead joins that one, and gets it: the stations would capture the
// same twice. Requests that come while others are being stored are stored together after them: one of the callers does it
// for all.
func (c *Conductor) Create(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	return c.fulfil(ctx, &wish{req: req, done: make(chan struct{})})
}

// fulfil waits until a wish is stored.
func (c *Conductor) fulfil(ctx context.Context, w *wish) (*protocol.Acquisition, error) {
	c.mu.Lock()
	c.wishes = append(c.wishes, w)
	c.mu.Unlock()
	select {
	case <-w.done:
	case c.turn <- struct{}{}:
		c.grant(context.WithoutCancel(ctx)) // others wait for it too
		<-c.turn
		<-w.done
	case <-ctx.Done():
		if c.withdraw(w) {
			return nil, ctx.Err()
		}
		<-w.done
	}
	return w.made, w.err
}

// withdraw takes a wish back; it is false when somebody has begun to store it.
func (c *Conductor) withdraw(w *wish) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.wishes)
	c.wishes = slices.DeleteFunc(c.wishes, func(other *wish) bool { return other == w })
	return len(c.wishes) < before
}

// grant stores all that is wished for, then sends the commands.
func (c *Conductor) grant(ctx context.Context) {
	c.mu.Lock()
	wishes := c.wishes
	c.wishes = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, mostCreating)
	defer cancel()
	now := c.now()
	made := c.merge(ctx, c.prepare(ctx, wishes, now), now)
	c.storeAll(ctx, made)
	for _, w := range made {
		if w.err == nil {
			c.offer(w.made)
		}
	}
	for _, w := range wishes {
		if w.same != nil {
			w.made, w.err = w.same.made, w.same.err
		}
		close(w.done)
	}
	for _, w := range made {
		if w.err == nil {
			c.begin(ctx, w.made, now)
		}
	}
}

// prepare makes the acquisitions of those wishes that can be fulfilled, and gives these, the most urgent first.
func (c *Conductor) prepare(ctx context.Context, wishes []*wish, now time.Time) (made []*wish) {
	if len(wishes) == 0 {
		return nil
	}
	all, err := c.cfg.Stations.Stations(ctx)
	for _, w := range wishes {
		w.err = err
		if err == nil && w.fit {
			w.req.DurationS = c.longestFitting(w.req, all)
		}
		if err == nil {
			w.made, w.err = c.plan(w.req, all, now)
		}
		if w.err == nil {
			made = append(made, w)
		}
	}
	slices.SortStableFunc(made, func(a, b *wish) int { return cmp.Compare(b.req.Priority, a.req.Priority) })
	return made
}

// plan is the acquisition that a request asks for.
func (c *Conductor) plan(req protocol.AcquisitionRequest, all []protocol.Station, now time.Time) (*protocol.Acquisition, error) {
	asked, start, err := c.check(req, all, now)
	if err != nil {
		return nil, err
	}
	a := &protocol.Acquisition{
		ID: newID(), Requested: protocol.FormatTime(now), StartTime: protocol.FormatTime(start), Request: req,
	}
	for _, s := range asked {
		a.Stations = append(a.Stations, partOf(s, start, end(a), now))
	}
	summarize(a, c.uploaded)
	return a, nil
}

// storeAll stores together what was made, and else gives each its error.
func (c *Conductor) storeAll(ctx context.Context, made []*wish) {
	err := c.store(ctx, made)
	for _, w := range made {
		w.err = err
		if len(made) > 1 && oneRecord(err) { // one that the store refuses is not the fault of the others
			w.err = c.store(ctx, []*wish{w})
		}
	}
}

func (c *Conductor) store(ctx context.Context, made []*wish) error {
	if len(made) == 0 {
		return nil
	}
	list := make([]*protocol.Acquisition, len(made))
	for i, w := range made {
		list[i] = w.made
	}
	return c.cfg.Store.CreateAcquisitions(ctx, list)
}

// begin sends the stations of a stored acquisition their commands.
func (c *Conductor) begin(ctx context.Context, a *protocol.Acquisition, now time.Time) {
	if e := c.issue(ctx, a, due(a, now)); e != nil {
		c.tell(ctx, *e)
	}
	c.cfg.Changed(a)
}

// now is the time as databases keep it.
func (c *Conductor) now() time.Time { return c.cfg.Now().UTC().Truncate(time.Microsecond) }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// partOf is how a station's part begins: some can be told at once that nothing will come.
func partOf(s protocol.Station, start, end, now time.Time) protocol.AcquisitionStation {
	out := protocol.AcquisitionStation{Station: s.ID, State: protocol.StationQueued, CommandID: newID()}
	if first := start.Add(-issueAhead); first.After(now) {
		out.NextAttempt = protocol.FormatTime(first)
	}
	refuse := func(state protocol.StationState, code, message string) {
		out.State, out.ReasonCode, out.Message, out.NextAttempt = state, code, message, ""
	}
	switch {
	case s.LastSeen == "":
		refuse(protocol.StationRefused, "no_agent", "no agent of this station has ever connected")
	case !takesOrders(s):
		refuse(protocol.StationRefused, "not_allowed", "the station takes no orders; its owner allows them with control.allow: [capture]")
	case s.Status != protocol.Online && !waitsFor(s, start, now):
		refuse(protocol.StationFailed, codeOffline, "the station is not connected")
	case s.Status != protocol.Online:
		out.ReasonCode = codeOffline
		out.Message = "the station is not connected; it is waited for until " + end.Add(afterEnd).Format(time.RFC3339)
	}
	return out
}
