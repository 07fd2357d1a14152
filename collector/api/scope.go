package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// What a caller sees of the network. A token that is limited to stations sees them as if there were no others: what is not its own
// is not there (404), and what it names that is not its own is refused (403).

// mostSkimmed is how many pages are looked through for one that a limited token sees something of.
const mostSkimmed = 20

func (c *caller) sees(station string) bool {
	return c.stations == nil || slices.Contains(c.stations, station)
}

// seen are the stations that the caller sees.
func (c *caller) seen(stations []protocol.Station) []protocol.Station {
	if c.stations == nil {
		return stations
	}
	return slices.DeleteFunc(slices.Clone(stations), func(s protocol.Station) bool { return !c.sees(s.ID) })
}

// part is what the caller sees of an acquisition; nil for nothing.
func (c *caller) part(a *protocol.Acquisition) *protocol.Acquisition {
	if c.stations == nil {
		return a
	}
	part := *a
	part.Stations = slices.DeleteFunc(slices.Clone(a.Stations), func(s protocol.AcquisitionStation) bool { return !c.sees(s.Station) })
	part.Request.Stations = slices.DeleteFunc(slices.Clone(a.Request.Stations), func(id string) bool { return !c.sees(id) })
	if len(part.Stations) == 0 {
		return nil
	}
	return &part
}

// limits tells which of some stations the caller may neither see nor order.
func (c *caller) limits(field string, stations []string) protocol.FieldErrors {
	var faults protocol.FieldErrors
	for _, id := range stations {
		if !c.sees(id) {
			faults = append(faults, fieldError(field, id, "token "+c.name+" is limited to "+strings.Join(c.stations, ", ")))
		}
	}
	return faults
}

// stations are all that the caller sees.
func (s *server) stations(ctx context.Context) ([]protocol.Station, error) {
	all, err := s.Reader.Stations(ctx)
	if err != nil {
		return nil, fmt.Errorf("list stations: %w", err)
	}
	return callerOf(ctx).seen(all), nil
}

// acquisitionSeen is what the caller sees of an acquisition.
func (s *server) acquisitionSeen(ctx context.Context, id string) (*protocol.Acquisition, error) {
	a, err := one(ctx, "acquisition", id, s.Commander.Acquisition)
	if err != nil {
		return nil, err
	}
	if a = callerOf(ctx).part(a); a == nil {
		return nil, absent(fs.ErrNotExist, "acquisition", id)
	}
	return a, nil
}

// acquisitionsSeen gives a page of what the caller sees of acquisitions; shorter than asked for where there are many that it
// does not see.
func (s *server) acquisitionsSeen(ctx context.Context, who *caller, limit int, cursor string) ([]*protocol.Acquisition, string, error) {
	var seen []*protocol.Acquisition
	for range mostSkimmed {
		list, next, err := s.Commander.Acquisitions(ctx, limit-len(seen), cursor)
		if err != nil {
			return nil, "", fmt.Errorf("list acquisitions: %w", err)
		}
		for _, a := range list {
			if a = who.part(a); a != nil {
				seen = append(seen, a)
			}
		}
		if cursor = next; cursor == "" || len(seen) == limit || who.stations == nil {
			break
		}
	}
	return seen, cursor, nil
}

// recordingSeen is a recording of a station that the caller sees.
func (s *server) recordingSeen(ctx context.Context, id string) (*protocol.Recording, error) {
	recording, err := one(ctx, "recording", id, s.Recordings.Recording)
	if err != nil {
		return nil, err
	}
	if !callerOf(ctx).sees(recording.Station) {
		return nil, absent(fs.ErrNotExist, "recording", id)
	}
	return recording, nil
}

// within makes an order one that the caller may give: of its own stations only, which are all that can take it where it names none.
func (s *server) within(ctx context.Context, request *protocol.AcquisitionRequest) error {
	who := callerOf(ctx)
	if who.stations == nil {
		return nil
	}
	if faults := who.limits("stations", request.Stations); len(faults) > 0 {
		return forbidden.faulty(faults)
	}
	if len(request.Stations) > 0 {
		return nil
	}
	own, err := s.stations(ctx)
	if err != nil {
		return err
	}
	for _, station := range own {
		if station.Status == protocol.Online && slices.Contains(station.Capabilities, "capture") {
			request.Stations = append(request.Stations, station.ID)
		}
	}
	if len(request.Stations) == 0 {
		return badField.with("none of the token's stations takes orders at the moment",
			fieldError("stations", "", "wait until one of "+strings.Join(who.stations, ", ")+" is online and takes orders"))
	}
	return nil
}

// seenEvent is the data of an event as the caller sees it; nil for nothing. Events of one station are chosen before.
func (c *caller) seenEvent(e event) ([]byte, error) {
	if c.stations == nil || e.name != EventAcquisition {
		return e.data, nil
	}
	var a protocol.Acquisition
	if err := json.Unmarshal(e.data, &a); err != nil {
		return nil, fmt.Errorf("read an acquisition: %w", err)
	}
	part := c.part(&a)
	if part == nil {
		return nil, nil
	}
	return marshal(wholeAcquisition(part))
}
