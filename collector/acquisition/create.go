package acquisition

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// Create checks a request, stores it and sends the stations their commands. Faults of the request are
// protocol.FieldErrors, all at once.
func (c *Conductor) Create(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	all, err := c.cfg.Stations.Stations(ctx)
	if err != nil {
		return nil, err
	}
	now := c.now()
	asked, start, err := c.check(req, all, now)
	if err != nil {
		return nil, err
	}
	a := &protocol.Acquisition{
		ID: newID(), Requested: protocol.FormatTime(now), StartTime: protocol.FormatTime(start), Request: req,
	}
	for _, s := range asked {
		a.Stations = append(a.Stations, begin(s, start, end(a), now))
	}
	summarize(a, c.uploaded)
	if err := c.cfg.Store.CreateAcquisition(ctx, a); err != nil {
		return nil, err
	}
	if e := c.issue(ctx, a, due(a, now)); e != nil {
		c.tell(ctx, *e)
	}
	c.cfg.Changed(a)
	return a, nil
}

// now is the time as databases keep it.
func (c *Conductor) now() time.Time { return c.cfg.Now().UTC().Truncate(time.Microsecond) }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// begin is the first state of a station: some can be told at once that nothing will come.
func begin(s protocol.Station, start, end, now time.Time) protocol.AcquisitionStation {
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
