package acquisition

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/fulgidus/heimdall/protocol"
)

// Cancel ends what has not started of an acquisition, and tells how it stands then. One that is settled stays as it is.
// An id that is not there gives an error matching fs.ErrNotExist.
func (c *Conductor) Cancel(ctx context.Context, id string) (*protocol.Acquisition, error) {
	now := protocol.FormatTime(c.now())
	var a *protocol.Acquisition
	changed := false
	err := c.cfg.Store.UpdateAcquisitions(ctx, []string{id}, func(stored *protocol.Acquisition) bool {
		a, changed = stored, cancel(stored, now)
		if changed {
			summarize(a, c.uploaded)
		}
		return changed
	})
	switch {
	case err != nil:
		return nil, err
	case a == nil:
		return nil, fmt.Errorf("acquisition %.40q: %w", id, fs.ErrNotExist)
	case !changed:
		return a, nil
	}
	c.dropStored(a.ID)
	c.forget(a)
	c.issue(ctx, a, c.unissued(a.ID, cancels(a), nil)) // what cannot be issued now is left for the next scan
	c.wakeUp()
	c.cfg.Changed(a)
	return a, nil
}

// cancel notes the wish and ends the part of each station that has not begun. It is false where there is nothing to cancel.
func cancel(a *protocol.Acquisition, now string) bool {
	if settled(a) || a.CancelRequested != "" {
		return false
	}
	a.CancelRequested = now
	for i := range a.Stations {
		cancelStation(&a.Stations[i], now)
	}
	return true
}

// cancelStation ends the part of a station that has not begun. One that may have been asked has to be told.
func cancelStation(s *protocol.AcquisitionStation, now string) {
	switch s.State {
	case protocol.StationQueued, protocol.StationSent, protocol.StationAccepted:
	default:
		return
	}
	if !timeOf(now).Before(timeOf(s.NextAttempt)) {
		s.CancelID = newID()
	}
	s.State, s.ReasonCode, s.NextAttempt = protocol.StationCancelled, codeCancelled, ""
	s.Message = "the acquisition was cancelled before the station had begun"
}

// cancels are the orders that tell stations to stop.
func cancels(a *protocol.Acquisition) (list []order) {
	for _, s := range a.Stations {
		if s.CancelID != "" {
			list = append(list, order{station: s.Station, id: s.CancelID, cancel: true})
		}
	}
	return list
}

// applyAnswer notes that a station knows that it was cancelled.
func applyAnswer(a *protocol.Acquisition, command string) bool {
	for i := range a.Stations {
		if s := &a.Stations[i]; s.CancelID != "" && s.CancelID == command {
			s.CancelID = ""
			return true
		}
	}
	return false
}

// dropCancels gives up telling stations that they were cancelled: they would not begin any more.
func dropCancels(a *protocol.Acquisition) bool {
	changed := false
	for i := range a.Stations {
		if s := &a.Stations[i]; s.CancelID != "" {
			s.CancelID = ""
			changed = true
		}
	}
	return changed
}

func settled(a *protocol.Acquisition) bool {
	return a.State != protocol.AcquisitionQueued && a.State != protocol.AcquisitionRunning
}
