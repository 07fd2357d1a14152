package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// The events of /api/v1/events.
const (
	EventRecord      = "record"
	EventAcquisition = "acquisition"
	EventStation     = "station"
	// EventReset tells that a stream does not go on from where the client was.
	EventReset = "reset"
)

const (
	// queueLength is how many events a client may lag behind: a second of a busy collector.
	queueLength = 1024
	// mostClients bounds the memory of the queues.
	mostClients = 256
	// setBack is how far a clock may be set back without a loss to those who resume.
	setBack = 2 * time.Second
	// pingEvery keeps proxies from closing a quiet stream, and finds clients that have gone or whose token was revoked.
	pingEvery = 10 * time.Second
)

// Hub hands what happens to the clients of /api/v1/events. Telling it never waits: a client whose queue is full is
// disconnected, and resumes from where it was.
//
// A client resumes by the time at which the database got the latest record that it saw, less a little. For that, records must be
// told in the order in which they were stored, as one collector's ingest does.
type Hub struct {
	mu      sync.Mutex // guards all below, and whether clients attend
	clients map[*client]struct{}
	closed  bool
	dropped uint64
	latest  time.Time // when the record that was told last arrived; at first, when the hub was made
}

// client is one open stream.
type client struct {
	wants eventFilter
	// queue is closed by the hub when the stream must end. Its capacity is the lag that a client is allowed.
	queue chan event
	// attends is false while the client gets what was before; nothing is queued for it then.
	attends bool
}

// event is one message, ready to send.
type event struct {
	id      string
	name    string
	kind    protocol.Kind // of a record
	station string        // empty when it concerns several
	data    []byte
}

// eventFilter selects events; nil lists do not restrict.
type eventFilter struct {
	names, kinds, stations []string
}

func (f *eventFilter) matches(e *event) bool {
	return (f.names == nil || slices.Contains(f.names, e.name)) &&
		(f.kinds == nil || e.kind == "" || slices.Contains(f.kinds, string(e.kind))) &&
		(f.stations == nil || e.station == "" || slices.Contains(f.stations, e.station))
}

// NewHub makes a hub without clients.
func NewHub() *Hub { return &Hub{clients: map[*client]struct{}{}, latest: time.Now()} }

// Run ends all streams when the context ends, so that a server can shut down.
func (h *Hub) Run(ctx context.Context) error {
	<-ctx.Done()
	h.Close()
	return nil
}

// Close ends all streams, and refuses new ones.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.clients {
		h.drop(c)
	}
}

// drop ends a stream. The caller holds mu.
func (h *Hub) drop(c *client) {
	if _, ok := h.clients[c]; ok {
		delete(h.clients, c)
		close(c.queue)
	}
}

// Clients is the number of open streams, and of those ended for being too slow.
func (h *Hub) Clients() (open int, droppedTotal uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients), h.dropped
}

// Record tells of a stored record. Samples and true places of stations are not told.
func (h *Hub) Record(stored protocol.StoredRecord) error {
	kind := stored.Record.Kind()
	if kind == protocol.KindIQ || kind == protocol.KindSite || kind == "" {
		return nil
	}
	h.mu.Lock()
	h.latest = stored.Received
	h.mu.Unlock()
	return h.tell(event{name: EventRecord, kind: kind, station: stored.Record.GetStation()}, func() ([]byte, error) {
		return recordItem(&stored)
	})
}

// Acquisition tells of a change in an acquisition.
func (h *Hub) Acquisition(a *protocol.Acquisition) error {
	return h.tell(event{name: EventAcquisition}, func() ([]byte, error) { return json.Marshal(wholeAcquisition(a)) })
}

// Station tells of a change of a station.
func (h *Hub) Station(station *protocol.Station) error {
	return h.tell(event{name: EventStation, station: station.ID}, func() ([]byte, error) { return json.Marshal(wholeStation(station)) })
}

// tell queues an event for every client that wants it. It is written once, and only if there is such a client.
func (h *Hub) tell(e event, write func() ([]byte, error)) error {
	if !h.wanted(&e) {
		return nil
	}
	data, err := write()
	if err != nil {
		return fmt.Errorf("write %s event: %w", e.name, err)
	}
	e.id = h.settled().String()
	e.data = bytes.ReplaceAll(data, []byte{'\n'}, nil) // one line a message; JSON has no line ends inside text
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if !c.attends || !c.wants.matches(&e) {
			continue
		}
		select {
		case c.queue <- e:
		default:
			h.dropped++
			h.drop(c)
		}
	}
	return nil
}

func (h *Hub) wanted(e *event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if c.attends && c.wants.matches(e) {
			return true
		}
	}
	return false
}

// settled is the place before which no more records will arrive, as far as this collector's own are concerned.
func (h *Hub) settled() protocol.Arrival {
	h.mu.Lock()
	defer h.mu.Unlock()
	return protocol.Arrival{Received: h.latest.Add(-setBack)}
}

// attend begins to queue events for a client.
func (h *Hub) attend(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.attends = true
}

// join opens a stream that does not attend yet; false when there is no room or the hub is closed.
func (h *Hub) join(wants eventFilter) (*client, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.clients) >= mostClients {
		return nil, false
	}
	c := &client{wants: wants, queue: make(chan event, queueLength)}
	h.clients[c] = struct{}{}
	return c, true
}

// leave ends a client's own stream.
func (h *Hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(c)
}

func eventNames() []string { return []string{EventRecord, EventAcquisition, EventStation} }

func eventKinds() []string {
	kinds := []string{string(protocol.KindReply)}
	for _, l := range listedKinds() {
		kinds = append(kinds, string(l.kind))
	}
	return kinds
}

func eventParameters() []parameter {
	words := func(set []string) map[string]any {
		return map[string]any{"type": "array", "items": map[string]any{"type": "string", "enum": set}}
	}
	return []parameter{
		{name: "event", text: "Only these events.", example: EventRecord, many: true, schema: words(eventNames())},
		{name: "kind", text: "Of the records, only these kinds.", example: string(protocol.KindDetection), many: true, schema: words(eventKinds())},
		stationParameter,
		{
			name: "last_event_id", text: "Go on after the event of this id, as the header Last-Event-ID asks, which counts if both are given.",
			example: "2026-11-24T02:00:05.250000Z", schema: map[string]any{"type": "string", "maxLength": longestCursor},
		},
	}
}

// events streams what happens until the client goes, falls behind, or the collector stops; first, what happened since the place
// that the client names.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	q := askedOf(r, eventParameters())
	wants := eventFilter{names: q.choices("event", eventNames()), kinds: q.choices("kind", eventKinds()), stations: q.stations("station")}
	from := q.resumePoint(r.Header)
	if err := q.err(); err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", eventsType)
		return nil
	}
	c, ok := s.Events.join(wants)
	if !ok {
		return unavailable.with("no more streams are served at the moment")
	}
	defer s.Events.leave(c)
	if err := stream(w, 2*pingEvery); err != nil { // longer than the pause between two messages
		return err
	}
	w.Header().Set("Content-Type", eventsType)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	out := &eventWriter{w: w, who: q.who, flush: http.NewResponseController(w).Flush}
	if from == nil {
		s.Events.attend(c)
		out.send(": heimdall events\nid: " + s.Events.settled().String() + "\nretry: 2000\n\n")
	} else {
		out.send(": heimdall events\nretry: 2000\n\n")
		if err := s.resume(r.Context(), out, c, *from); err != nil {
			return err // it breaks off, and the client comes again
		}
	}
	return s.follow(r.Context(), out, c)
}

// follow sends what happens.
func (s *server) follow(ctx context.Context, out *eventWriter, c *client) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for out.err == nil {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-c.queue:
			if !open {
				out.send(": end of stream; come again with the last id for what was missed\n\n")
				return nil
			}
			out.event(e, c.queue)
		case <-ping.C:
			out.send(": ping\n\n")
		}
	}
	return nil // a client that has gone needs no answer
}

// eventWriter writes messages and keeps the first error.
type eventWriter struct {
	w     http.ResponseWriter
	who   *caller
	flush func() error
	err   error
	// waiting is what was added and not sent yet.
	waiting bytes.Buffer
}

func (s *eventWriter) send(text string) {
	if s.err == nil {
		_, s.err = s.w.Write([]byte(text))
	}
	if s.err == nil {
		s.err = s.flush()
	}
}

// event writes a message and those that already wait behind it, in one go.
func (s *eventWriter) event(e event, queue <-chan event) {
	s.add(e)
	for waiting := len(queue); waiting > 0 && s.waiting.Len() < 64<<10; waiting-- {
		next, open := <-queue
		if !open {
			break
		}
		s.add(next)
	}
	s.sendWaiting()
}

// add writes a message behind those that are to be sent.
func (s *eventWriter) add(e event) {
	var err error
	if e.data, err = s.who.seenEvent(e); err != nil && s.err == nil {
		s.err = err
	}
	if e.data == nil {
		return
	}
	fmt.Fprintf(&s.waiting, "event: %s\nid: %s\ndata: %s\n\n", e.name, e.id, e.data)
}

// sendWaiting sends what was added.
func (s *eventWriter) sendWaiting() {
	if s.waiting.Len() > 0 {
		s.send(s.waiting.String())
		s.waiting.Reset()
	}
}
