package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// longestBreak is how far back a stream can resume.
	longestBreak = 24 * time.Hour
	// shortBreak is how much can be caught up with while events wait in the client's queue.
	shortBreak = 10 * time.Second
	// arrivalPage is how many records of each kind are in memory for a client that resumes.
	arrivalPage = 200
	// shownAcquisitions is how many acquisitions a client that resumes is told of, and shownPage how many are in memory for it: after
	// a restart all clients resume at once.
	shownAcquisitions = 1000
	shownPage         = 50
)

// resumePoint reads where a stream is to go on; nil where it begins.
func (q *query) resumePoint(h http.Header) *protocol.Arrival {
	field, text := "last_event_id", q.values.Get("last_event_id")
	if given := h.Get("Last-Event-ID"); given != "" {
		field, text = "Last-Event-ID", given
	}
	if text == "" {
		return nil
	}
	at, err := protocol.ParseArrival(text)
	if err != nil {
		q.fault(field, text, "copy the id of the last event, such as 2026-11-24T02:00:05.250000Z, or leave it out")
		return nil
	}
	return &at
}

// resume sends what happened since a place, and has the client attend. Records come out of the store. They are read up to the
// present, then, with the client attending, again from where nothing more could arrive: so what is stored in between is either
// read or told, or both.
func (s *server) resume(ctx context.Context, out *eventWriter, c *client, from protocol.Arrival) error {
	present := s.Now()
	if age := present.Sub(from.Received); age > longestBreak || age < -setBack {
		out.reset(s.Events.settled(), from)
		from = s.Events.settled()
	} else if age > shortBreak {
		settled := s.Events.settled()
		if err := s.replay(ctx, out, c, from, settled); err != nil {
			return err
		}
		if settled.Received.After(from.Received) {
			from = settled
		}
	}
	s.Events.attend(c)
	if err := s.replay(ctx, out, c, from, s.Events.settled()); err != nil {
		return err
	}
	return s.showPresent(ctx, out, c)
}

// reset tells that what was before is not told.
func (s *eventWriter) reset(now, asked protocol.Arrival) {
	e := event{id: now.String(), name: EventReset, data: fmt.Appendf(nil, `{"asked":%q,"message":"that is more than a day ago, or in the future; read the lists for what was missed"}`, asked)}
	s.event(e, nil)
}

// replay sends the records that arrived after a place. Up to where more may still arrive (settled), each has its own place for an
// id, so that a client makes progress however often it is cut off.
func (s *server) replay(ctx context.Context, out *eventWriter, c *client, after, settled protocol.Arrival) error {
	p := arrivals{read: s.Reader.Arrivals, stations: c.wants.stations}
	for _, kind := range slices.Sorted(slices.Values(eventKinds())) {
		if c.wants.matches(&event{name: EventRecord, kind: protocol.Kind(kind)}) {
			p.kinds = append(p.kinds, arrivalsOf{kind: protocol.Kind(kind), after: after})
		}
	}
	pinged := time.Now()
	for out.err == nil {
		stored, err := p.next(ctx)
		if err != nil {
			return fmt.Errorf("read what arrived: %w", err)
		}
		if stored == nil {
			return nil
		}
		data, err := recordItem(stored)
		if err != nil {
			return err
		}
		id := protocol.ArrivalOf(stored)
		if !id.Received.Before(settled.Received) {
			id = laterOf(settled, after)
		}
		out.add(event{id: id.String(), name: EventRecord, data: data})
		if now := time.Now(); now.Sub(pinged) >= time.Second || out.waiting.Len() >= 32<<10 {
			pinged = now
			out.sendWaiting()
		}
	}
	return nil
}

// laterOf is the later of two places: an id must not lead back to before where the client began.
func laterOf(a, b protocol.Arrival) protocol.Arrival {
	if b.Received.After(a.Received) {
		return b
	}
	return a
}

// showPresent sends stations and acquisitions as they are.
func (s *server) showPresent(ctx context.Context, out *eventWriter, c *client) error {
	id := s.Events.settled().String()
	stations, err := s.Reader.Stations(ctx)
	if err != nil {
		return fmt.Errorf("list stations: %w", err)
	}
	for i := range stations {
		e := event{id: id, name: EventStation, station: stations[i].ID}
		if !c.wants.matches(&e) {
			continue
		}
		if e.data, err = marshal(wholeStation(&stations[i])); err != nil {
			return err
		}
		out.add(e)
	}
	out.sendWaiting()
	if c.wants.matches(&event{name: EventAcquisition}) {
		return s.showAcquisitions(ctx, out, id)
	}
	return nil
}

// showAcquisitions sends the newest acquisitions as they are.
func (s *server) showAcquisitions(ctx context.Context, out *eventWriter, id string) error {
	read := acquisitionPages(s, &query{who: out.who}).timely()
	cursor := ""
	for shown := 0; shown < shownAcquisitions && out.err == nil; shown += shownPage {
		items, next, err := read(ctx, shownPage, cursor)
		if err != nil {
			return err
		}
		for _, item := range items {
			out.add(event{id: id, name: EventAcquisition, data: item})
		}
		out.sendWaiting()
		if next == "" {
			return nil
		}
		cursor = next
	}
	return nil
}

// arrivals merges the kinds of records in the order of their arrival.
type arrivals struct {
	read     func(ctx context.Context, kind protocol.Kind, after protocol.Arrival, stations []string, limit int) ([]protocol.StoredRecord, error)
	stations []string
	kinds    []arrivalsOf // sorted by kind
}

// arrivalsOf is one kind's part.
type arrivalsOf struct {
	kind  protocol.Kind
	after protocol.Arrival // of the record read last
	page  []protocol.StoredRecord
	ended bool
}

// next is the record that arrived next; nil when there is none yet.
func (p *arrivals) next(ctx context.Context) (*protocol.StoredRecord, error) {
	var first *arrivalsOf
	for i := range p.kinds {
		k := &p.kinds[i]
		if len(k.page) == 0 && !k.ended {
			if err := p.fill(ctx, k); err != nil {
				return nil, err
			}
		}
		if len(k.page) > 0 && (first == nil || k.page[0].Received.Before(first.page[0].Received)) {
			first = k
		}
	}
	if first == nil {
		return nil, nil
	}
	stored := &first.page[0]
	first.page = first.page[1:]
	return stored, nil
}

func (p *arrivals) fill(ctx context.Context, k *arrivalsOf) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	page, err := p.read(ctx, k.kind, k.after, p.stations, arrivalPage)
	if err != nil {
		return err
	}
	k.page, k.ended = page, len(page) < arrivalPage
	if len(page) > 0 {
		k.after = protocol.ArrivalOf(&page[len(page)-1])
	}
	return nil
}
