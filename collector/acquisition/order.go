package acquisition

import (
	"context"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// order is a command for one station of an acquisition.
type order struct {
	station string
	id      string
	cancel  bool // what it orders: the capture, or its end
}

// due lists what stations still have to be told at a time.
func due(a *protocol.Acquisition, now time.Time) (list []order) {
	for _, s := range a.Stations {
		switch {
		case s.CancelID != "":
			list = append(list, order{station: s.Station, id: s.CancelID, cancel: true})
		case s.State == protocol.StationQueued && now.Before(timeOf(s.NextAttempt)):
		case s.State == protocol.StationQueued, s.State == protocol.StationSent:
			list = append(list, order{station: s.Station, id: s.CommandID})
		}
	}
	return list
}

// issue gives commands to the commander. The commander repeats by itself, so a process does this once. It tells which
// stations will be told and which cannot be; nil when there is none.
func (c *Conductor) issue(ctx context.Context, a *protocol.Acquisition, list []order) *event {
	e := event{kind: eventIssued, acquisition: a.ID}
	for _, o := range list {
		cmd, err := o.command(a)
		if err == nil && c.cfg.Now().UnixNano() >= cmd.GetExpires() {
			continue // the next scan finds it expired
		}
		if err == nil {
			err = c.cfg.Commander.Issue(ctx, o.station, cmd)
		}
		switch {
		case err == nil:
			c.noteIssued(a.ID, o.id)
			e.issued = append(e.issued, o.id)
		case !o.cancel: // what cancels is tried again by the next scan
			e.failed = append(e.failed, failure{station: o.station, code: codeNotSent, message: err.Error()})
		}
	}
	if len(e.issued)+len(e.failed) == 0 {
		return nil
	}
	return &e
}

func (c *Conductor) noteIssued(acquisition, command string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issued[acquisition] == nil {
		c.issued[acquisition] = make(orders)
	}
	c.issued[acquisition][command] = c.cfg.Now()
}

// unissued are those of the orders that this process has not given to the commander, or whose station has returned since.
func (c *Conductor) unissued(acquisition string, list []order, returned map[string]bool) (rest []order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range list {
		_, known := c.issued[acquisition][o.id]
		if known && returned[o.station] {
			c.cfg.Commander.Forget(o.id) // and begin again, with the next scan if it cannot be now
			delete(c.issued[acquisition], o.id)
		}
		if !known || returned[o.station] {
			rest = append(rest, o)
		}
	}
	return rest
}

// command is the order as a station gets it. It depends on nothing but the stored acquisition, so that it is the same
// when it is issued again.
func (o order) command(a *protocol.Acquisition) (*protocol.Command, error) {
	issued, err := time.Parse(time.RFC3339Nano, a.Requested)
	if err != nil {
		return nil, err
	}
	start, err := time.Parse(time.RFC3339Nano, a.StartTime)
	if err != nil {
		return nil, err
	}
	cmd := &protocol.Command{Id: &o.id, Expires: new(expiry(a).UnixNano())}
	if o.cancel {
		if issued, err = time.Parse(time.RFC3339Nano, a.CancelRequested); err != nil {
			return nil, err
		}
		cmd.Issued = new(issued.UnixNano())
		cmd.Order = &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: &station(a, o.station).CommandID}}
		return cmd, nil
	}
	capture := &protocol.Capture{
		Acquisition: &a.ID, Start: new(start.UnixNano()), DurationS: &a.Request.DurationS, CenterHz: &a.Request.FrequencyHz,
		BandwidthHz: a.Request.BandwidthHz, Iq: &a.Request.IQ,
	}
	if a.Request.Priority != 0 {
		capture.Priority = new(int32(a.Request.Priority))
	}
	cmd.Issued, cmd.Order = new(issued.UnixNano()), &protocol.Command_Capture{Capture: capture}
	return cmd, nil
}

// end is when the last station that records as it happens has the last sample.
func end(a *protocol.Acquisition) time.Time {
	return later(timeOf(a.Requested), timeOf(a.StartTime)).Add(time.Duration(a.Request.DurationS * float64(time.Second)))
}

// expiry is until when a station may begin to answer.
func expiry(a *protocol.Acquisition) time.Time { return end(a).Add(afterEnd) }

// timeOf reads a time that the conductor or the store wrote; an absent one is the zero time.
func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
