package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"

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

// pager reads a page of a list: its items as JSON, and the cursor of the next page, empty after the last.
type pager func(ctx context.Context, limit int, cursor string) (items []json.RawMessage, next string, err error)

// timely gives each page its own time-out.
func (read pager) timely() pager {
	return func(ctx context.Context, limit int, cursor string) ([]json.RawMessage, string, error) {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		return read(ctx, limit, cursor)
	}
}

// listing is a list that an address answers with, as pages or in bulk.
type listing struct {
	columns []column // of its CSV form
	// pages reads the parameters that say what is in the list.
	pages func(s *server, q *query) pager
	// steady are the items without what moves on by itself; nil where nothing does.
	steady func(items []json.RawMessage) (any, error)
}

// sendList answers with a page as JSON, or with all of the list in another form.
func (s *server) sendList(rt *route, w http.ResponseWriter, r *http.Request) error {
	form, _ := preferred(r.Header.Values("Accept"), rt.answer.types)
	q := askedOf(r, rt.query)
	q.bulk = form != jsonType
	read := rt.listing.pages(s, q).timely()
	limit, cursor := q.limit(), q.cursor()
	if err := q.err(); err != nil {
		return err
	}
	w.Header().Set("Vary", "Accept")
	if q.bulk {
		return s.sendBulk(w, r, bulkRead{form: form, columns: rt.listing.columns, read: read, most: limit, cursor: cursor})
	}
	items, next, err := read(r.Context(), limit, cursor)
	if err != nil {
		return err
	}
	if next != "" {
		w.Header().Set("Link", "<"+nextAddress(r.URL, next)+`>; rel="next"`)
	}
	if rt.listing.steady == nil {
		return sendKnown(w, r, list(items, next))
	}
	steady, err := rt.listing.steady(items)
	if err != nil {
		return err
	}
	return sendAlike(w, r, list(items, next), steady)
}

// nextAddress is where the next page is, on the same server.
func nextAddress(u *url.URL, cursor string) string {
	query := u.Query()
	query.Set("cursor", cursor)
	return u.EscapedPath() + "?" + query.Encode()
}

// itemsOf writes each thing as JSON on one line.
func itemsOf[T any](things []T, whole func(*T) any) ([]json.RawMessage, error) {
	items := make([]json.RawMessage, len(things))
	for i := range things {
		var err error
		if items[i], err = marshal(whole(&things[i])); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// marshal writes JSON on one line, with < > & as they are.
func marshal(value any) (json.RawMessage, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte{'\n'}), nil
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

// stationPages gives all stations at once: a network has not so many.
func stationPages(s *server, _ *query) pager {
	return func(ctx context.Context, _ int, _ string) ([]json.RawMessage, string, error) {
		stations, err := s.stations(ctx)
		if err != nil {
			return nil, "", err
		}
		items, err := itemsOf(stations, func(station *protocol.Station) any { return wholeStation(station) })
		return items, "", err
	}
}

func (s *server) station(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if protocol.ValidStation(id) != nil {
		return notFound.with("no station can have this id", fieldError("id", id, stationAdvice))
	}
	station, err := s.Reader.Station(r.Context(), id)
	if err == nil && (station == nil || !callerOf(r.Context()).sees(id)) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return absent(fmt.Errorf("read station: %w", err), "station", id)
	}
	return sendAlike(w, r, wholeStation(station), steadyStation(*station))
}

// wholeStation is the station without null arrays.
func wholeStation(station *protocol.Station) *protocol.Station {
	whole := *station
	whole.Receivers = array(whole.Receivers)
	whole.Capabilities = array(whole.Capabilities)
	return &whole
}

// steadyStations are stations as they stand in a list, without what moves on by itself.
func steadyStations(items []json.RawMessage) (any, error) {
	steady := make([]protocol.Station, len(items))
	for i, item := range items {
		var station protocol.Station
		if err := json.Unmarshal(item, &station); err != nil {
			return nil, fmt.Errorf("read a station: %w", err)
		}
		steady[i] = steadyStation(station)
	}
	return steady, nil
}

// steadyStation is a station without how far its histories reach back and, while it is online, when it was last heard of:
// both are about now, whenever one asks.
func steadyStation(station protocol.Station) protocol.Station {
	station.Receivers = slices.Clone(station.Receivers)
	for i := range station.Receivers {
		r := &station.Receivers[i]
		if r.HistoryFrom != "" {
			r.HistoryFrom = "known"
		}
	}
	if station.Status == protocol.Online {
		station.LastSeen = ""
	}
	return station
}

// wholeAcquisition is the acquisition without null arrays.
func wholeAcquisition(a *protocol.Acquisition) *protocol.Acquisition {
	whole := *a
	whole.Stations = array(whole.Stations)
	return &whole
}

// recordPages gives records of a kind.
func recordPages(l listed) func(*server, *query) pager {
	return func(s *server, q *query) pager {
		filter := q.filter()
		if !l.band {
			filter.MinHz, filter.MaxHz = 0, 0
		}
		return func(ctx context.Context, limit int, cursor string) ([]json.RawMessage, string, error) {
			filter.Limit, filter.Cursor = limit, cursor
			records, next, err := s.Reader.Records(ctx, l.kind, filter)
			if err != nil {
				return nil, "", fmt.Errorf("list %s: %w", l.plural, err)
			}
			items := make([]json.RawMessage, len(records))
			for i := range records {
				if items[i], err = recordItem(&records[i]); err != nil {
					return nil, "", fmt.Errorf("write %s: %w", l.plural, err)
				}
			}
			return items, next, nil
		}
	}
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

func acquisitionPages(s *server, q *query) pager {
	return func(ctx context.Context, limit int, cursor string) ([]json.RawMessage, string, error) {
		acquisitions, next, err := s.acquisitionsSeen(ctx, q.who, limit, cursor)
		if err != nil {
			return nil, "", err
		}
		items, err := itemsOf(acquisitions, func(a **protocol.Acquisition) any { return wholeAcquisition(*a) })
		return items, next, err
	}
}

func (s *server) acquisition(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	a, err := s.acquisitionSeen(r.Context(), id)
	if err != nil {
		return err
	}
	return sendKnown(w, r, wholeAcquisition(a))
}

func (s *server) cancelAcquisition(w http.ResponseWriter, r *http.Request) error {
	id, who := r.PathValue("id"), callerOf(r.Context())
	if who.stations != nil {
		if err := s.cancellable(r.Context(), id); err != nil {
			return err
		}
	}
	a, err := one(r.Context(), "acquisition", id, s.Commander.Cancel)
	if err != nil {
		return err
	}
	s.noteDone(r, actCancel, id, nil)
	return send(w, r, http.StatusOK, wholeAcquisition(a))
}

// cancellable refuses a limited token what it would take from stations that are not its own.
func (s *server) cancellable(ctx context.Context, id string) error {
	seen, err := s.acquisitionSeen(ctx, id)
	if err != nil {
		return err
	}
	whole, err := one(ctx, "acquisition", id, s.Commander.Acquisition)
	if err != nil {
		return err
	}
	if len(seen.Stations) < len(whole.Stations) {
		return forbidden.with("the acquisition is of stations, too, that the token is not for", fieldError("id", id, "cancel it with a token for all its stations"))
	}
	return nil
}

func recordingPages(s *server, q *query) pager {
	filter := q.filter()
	return func(ctx context.Context, limit int, cursor string) ([]json.RawMessage, string, error) {
		filter.Limit, filter.Cursor = limit, cursor
		recordings, next, err := s.Recordings.Recordings(ctx, filter)
		if err != nil {
			return nil, "", fmt.Errorf("list recordings: %w", err)
		}
		items, err := itemsOf(recordings, func(r *protocol.Recording) any { return r })
		return items, next, err
	}
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
