package acquisition

import (
	"cmp"
	"context"
	"runtime"
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

// Create checks a request and stores it; Run then sends the stations their commands. Faults of the request are
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

// grant stores all that is wished for, and leaves the commands to Run.
func (c *Conductor) grant(ctx context.Context) {
	if !c.wished() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, mostCreating)
	defer cancel()
	all, err := c.cfg.Stations.Stations(ctx)
	wishes := c.takeWishes() // with those that came meanwhile
	now := c.now()
	made := c.merge(ctx, c.prepare(wishes, all, err, now), now)
	c.storeAll(ctx, made)
	for _, w := range made {
		if w.err == nil {
			c.offer(w.made)
			c.addStored(w.made)
		}
	}
	for _, w := range wishes {
		if w.same != nil {
			w.made, w.err = w.same.made, w.same.err
		}
		close(w.done)
	}
	select {
	case c.begun <- struct{}{}:
	default:
	}
}

// wished tells whether there is anything to store.
func (c *Conductor) wished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wishes) > 0
}

func (c *Conductor) takeWishes() []*wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	wishes := c.wishes
	c.wishes = nil
	return wishes
}

// prepare makes the acquisitions of those wishes that can be fulfilled with the stations there are, and gives these, the most
// urgent first. None can when the stations could not be read.
func (c *Conductor) prepare(wishes []*wish, all []protocol.Station, err error, now time.Time) (made []*wish) {
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

// begin sends the stations of stored acquisitions their commands, until ctx ends. Those who asked are let go first: what the
// commands set going, here, in the broker and in the database, is much more work than the answers.
func (c *Conductor) begin(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.begun:
		}
		c.letOthersAsk(ctx)
		for a := c.nextStored(); a != nil; a = c.nextStored() {
			if e := c.issue(ctx, a, due(a, timeOf(a.Requested))); e != nil {
				c.tell(ctx, *e)
			}
			c.cfg.Changed(a)
		}
	}
}

// letOthersAsk waits until nobody's wish is being stored or waits for that: what is wished for at once is stored first.
func (c *Conductor) letOthersAsk(ctx context.Context) {
	for range 10 {
		runtime.Gosched()
		select {
		case c.turn <- struct{}{}:
			<-c.turn
		case <-ctx.Done():
			return
		}
		if !c.wished() {
			return
		}
	}
}

func (c *Conductor) addStored(a *protocol.Acquisition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored = append(c.stored, a)
}

// nextStored takes the first acquisition whose commands are to be sent; nil when there is none.
func (c *Conductor) nextStored() *protocol.Acquisition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stored) == 0 {
		c.stored = nil
		return nil
	}
	a := c.stored[0]
	c.stored = c.stored[1:]
	return a
}

// dropStored has the commands of an acquisition never sent, if that has not begun.
func (c *Conductor) dropStored(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored = slices.DeleteFunc(c.stored, func(a *protocol.Acquisition) bool { return a.ID == id })
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
	case s.Status != protocol.Online && s.Version == "" && len(s.Receivers) == 0:
		refuse(protocol.StationFailed, codeOffline, "the station has left, or is not connected: what it takes orders for is not known")
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
