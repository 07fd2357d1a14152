package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/fulgidus/heimdall/protocol"
)

// page is one page of a list.
type page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// list makes a page whose items are never null.
func list[T any](items []T, next string) page[T] {
	return page[T]{Items: array(items), NextCursor: next}
}

// array is the slice, or an empty one: nil would be written as null.
func array[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func fieldError(field, value, message string) protocol.FieldError {
	return protocol.FieldError{Field: field, Value: printable(value), Message: message}
}

// absent turns an unknown id into a problem that names it, and passes other errors on.
func absent(err error, what, id string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notFound.with("there is no "+what+" "+printable(id), fieldError("id", id, "no such "+what))
	}
	return err
}

func (s *server) stations(w http.ResponseWriter, r *http.Request) error {
	stations, err := s.Reader.Stations(r.Context())
	if err != nil {
		return fmt.Errorf("list stations: %w", err)
	}
	items := make([]*protocol.Station, 0, len(stations))
	for i := range stations {
		items = append(items, wholeStation(&stations[i]))
	}
	return send(w, r, http.StatusOK, list(items, ""))
}

func (s *server) station(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if protocol.ValidStation(id) != nil {
		return notFound.with("no station can have this id", fieldError("id", id, stationAdvice))
	}
	station, err := s.Reader.Station(r.Context(), id)
	if err == nil && station == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return absent(fmt.Errorf("read station: %w", err), "station", id)
	}
	return send(w, r, http.StatusOK, wholeStation(station))
}

// wholeStation is the station without null arrays.
func wholeStation(station *protocol.Station) *protocol.Station {
	whole := *station
	whole.Receivers = array(whole.Receivers)
	whole.Capabilities = array(whole.Capabilities)
	return &whole
}

// wholeAcquisition is the acquisition without null arrays.
func wholeAcquisition(a *protocol.Acquisition) *protocol.Acquisition {
	whole := *a
	whole.Stations = array(whole.Stations)
	return &whole
}

func (s *server) records(w http.ResponseWriter, r *http.Request, l listed) error {
	q := parseQuery(r.URL.RawQuery, recordParameters)
	filter := q.filter()
	if err := q.err(); err != nil {
		return err
	}
	if !l.band {
		filter.MinHz, filter.MaxHz = 0, 0
	}
	records, next, err := s.Reader.Records(r.Context(), l.kind, filter)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.plural, err)
	}
	items := make([]json.RawMessage, 0, len(records))
	for i := range records {
		item, err := recordItem(&records[i])
		if err != nil {
			return fmt.Errorf("write %s: %w", l.plural, err)
		}
		items = append(items, item)
	}
	return send(w, r, http.StatusOK, list(items, next))
}

// recordItem is a record in the JSON dialect with the time of its arrival.
func recordItem(stored *protocol.StoredRecord) (json.RawMessage, error) {
	body, err := protocol.MarshalJSON(stored.Record)
	if err != nil {
		return nil, fmt.Errorf("write record %d of %s as JSON: %w", stored.Record.GetSeq(), stored.Record.GetStation(), err)
	}
	members := []protocol.Member{{Name: "received", Value: stored.Received}}
	if stored.Late {
		members = append(members, protocol.Member{Name: "late", Value: true})
	}
	return protocol.AppendMembers(body, members...)
}

func (s *server) acquisitions(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery, []parameter{limitParameter, cursorParameter})
	limit, cursor := q.limit(), q.cursor()
	if err := q.err(); err != nil {
		return err
	}
	acquisitions, next, err := s.Commander.Acquisitions(r.Context(), limit, cursor)
	if err != nil {
		return fmt.Errorf("list acquisitions: %w", err)
	}
	items := make([]*protocol.Acquisition, 0, len(acquisitions))
	for _, a := range acquisitions {
		items = append(items, wholeAcquisition(a))
	}
	return send(w, r, http.StatusOK, list(items, next))
}

func (s *server) acquisition(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	a, err := one(r.Context(), "acquisition", id, s.Commander.Acquisition)
	if err != nil {
		return err
	}
	return send(w, r, http.StatusOK, wholeAcquisition(a))
}

func (s *server) cancelAcquisition(w http.ResponseWriter, r *http.Request) error {
	a, err := one(r.Context(), "acquisition", r.PathValue("id"), s.Commander.Cancel)
	if err != nil {
		return err
	}
	return send(w, r, http.StatusOK, wholeAcquisition(a))
}

// one reads one thing by its id. It has its own time-out, for answers that have none.
func one[T any](ctx context.Context, what, id string, read func(context.Context, string) (*T, error)) (*T, error) {
	if printable(id) != id {
		return nil, absent(fs.ErrNotExist, what, id)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	thing, err := read(ctx, id)
	if err == nil && thing == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, absent(fmt.Errorf("read %s: %w", what, err), what, id)
	}
	return thing, nil
}
