package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// told is one event as a client gets it.
type told struct{ id, name, data string }

// follower is a client that goes on from the last id it got.
type follower struct {
	last  string
	lines *bufio.Scanner
	end   func()
}

func (f *follower) connect(t *testing.T, url string) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.last != "" {
		r.Header.Set("Last-Event-ID", f.last)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		cancel()
		return false // a server that is just starting
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		cancel()
		return false
	}
	f.lines = bufio.NewScanner(answer.Body)
	f.lines.Buffer(nil, 1<<20)
	f.end = func() { cancel(); _ = answer.Body.Close() }
	return true
}

// next is the next event; false when the stream has ended.
func (f *follower) next() (told, bool) {
	var e told
	for f.lines.Scan() {
		name, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if f.lines.Text() != "" {
				continue // a comment
			}
			if e.id != "" {
				f.last = e.id
			}
			if e.name != "" {
				return e, true
			}
		}
	}
	return told{}, false
}

// site is a collector that can be stopped and started, on a database that stays.
type site struct {
	db     *store.DB
	hub    atomic.Pointer[api.Hub]
	server atomic.Pointer[httptest.Server]
}

func newSite(t *testing.T) *site {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "heimdall.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &site{db: db}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *site) start(t *testing.T) {
	t.Helper()
	w := newWorld()
	w.config.Now, w.config.Reader = time.Now, s.db
	w.config.Commander = &commander{one: s.db.Acquisition, list: s.db.Acquisitions}
	s.hub.Store(w.config.Events)
	s.server.Store(httptest.NewServer(w.handler(t)))
}

func (s *site) stop() {
	s.hub.Load().Close()
	s.server.Load().CloseClientConnections()
	s.server.Load().Close()
}

// store commits records of several kinds and tells of them, as ingest does.
func (s *site) store(t *testing.T, from, n uint64) {
	t.Helper()
	var records []*protocol.Record
	for seq := from; seq < from+n; seq++ {
		r := recordOf([]protocol.Kind{protocol.KindMeasurement, protocol.KindDetection, protocol.KindHealth, protocol.KindGap}[seq%4])
		r.Seq, r.Time = proto.Uint64(seq), proto.Int64(time.Now().UnixNano())
		records = append(records, r)
	}
	received := time.Now()
	fresh, _, err := s.db.Commit(t.Context(), received, records, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if fresh[i] {
			tell(t, s.hub.Load().Record(protocol.StoredRecord{Record: r, Received: received}))
		}
	}
}

// A client that is cut off again and again, also while the collector is down, sees every record.
func TestResume_LosesNothingInFiftyBreaksAndARestart(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	s := newSite(t)
	const records, batch, breaks = 12_000, 40, 50
	seen := make(map[uint64]int, records)
	f := &follower{}
	if !f.connect(t, s.server.Load().URL+"/api/v1/events") {
		t.Fatal("no stream")
	}
	stored := make(chan struct{}) // closed when all is stored
	go func() {
		defer close(stored)
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for seq := uint64(1); seq < records; seq += batch {
			if seq == 1+records/2/batch*batch { // it is killed, stores nothing that it tells of, and starts again
				s.stop()
				s.start(t)
			}
			s.store(t, seq, batch)
			<-pace.C
		}
	}()
	broken := 0
	deadline := time.Now().Add(2 * time.Minute)
	for len(seen) < records && time.Now().Before(deadline) {
		left := -1 // until the end
		if broken < breaks {
			left = 1 + random.IntN(2*records/breaks)
		}
		for ; left != 0; left-- {
			e, ok := f.next()
			if !ok {
				break
			}
			if e.name != api.EventRecord {
				continue
			}
			var record struct{ Seq uint64 }
			if err := json.Unmarshal([]byte(e.data), &record); err != nil || e.id == "" {
				t.Fatalf("event %+v: %v", e, err)
			}
			seen[record.Seq]++
			if len(seen) == records {
				break
			}
		}
		if len(seen) == records && broken >= breaks {
			break
		}
		f.end()
		broken++
		until(t, "the stream is open again", func() bool { return f.connect(t, s.server.Load().URL+"/api/v1/events") })
	}
	f.end()
	<-stored
	twice := 0
	for _, n := range seen {
		twice += n - 1
	}
	t.Logf("%d records, %d breaks, %d events twice", len(seen), broken, twice)
	if len(seen) != records || broken < breaks {
		t.Errorf("%d records of %d seen, %d breaks", len(seen), records, broken)
	}
}

func TestResume_SendsWhatIsPresent(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	f := &follower{last: protocol.Arrival{Received: noon.Add(-time.Hour)}.String()}
	asked := make(chan string, 4)
	w.reader.arrivals = func(_ context.Context, kind protocol.Kind, after protocol.Arrival, stations []string, _ int) ([]protocol.StoredRecord, error) {
		asked <- fmt.Sprint(kind, stations)
		if kind != protocol.KindGap || after.Kind != "" {
			return nil, nil
		}
		return []protocol.StoredRecord{{Record: recordOf(protocol.KindGap), Received: noon.Add(-time.Minute)}}, nil
	}
	if !f.connect(t, server.URL+"/api/v1/events?kind=gap,health&station=torino") {
		t.Fatal("no stream")
	}
	defer f.end()
	for _, want := range []string{api.EventRecord, api.EventRecord, api.EventStation, api.EventAcquisition} { // the record is read up to the present, and again
		e, ok := f.next()
		if !ok || e.name != want || e.id == "" {
			t.Fatalf("event %+v, want %s", e, want)
		}
	}
	for _, want := range []string{"gap[torino]", "health[torino]", "gap[torino]", "health[torino]"} {
		if got := <-asked; got != want {
			t.Errorf("read %s, want %s", got, want)
		}
	}
	tell(t, w.config.Events.Station(&protocol.Station{ID: "torino", Status: "offline"}))
	if e, ok := f.next(); !ok || e.name != api.EventStation || !strings.Contains(e.data, "offline") {
		t.Errorf("then %+v", e)
	}
}

// All clients resume after a restart of the collector: none may have many acquisitions in memory.
func TestResume_ShowsAcquisitionsPageByPage(t *testing.T) {
	w := newWorld()
	const pages = 3
	limits := make(chan int, pages)
	w.commander.list = func(_ context.Context, limit int, cursor string) ([]*protocol.Acquisition, string, error) {
		limits <- limit
		next := cursor + "+"
		if len(next) == pages {
			next = ""
		}
		return []*protocol.Acquisition{{ID: "after" + cursor}}, next, nil
	}
	f := &follower{last: protocol.Arrival{Received: noon}.String()}
	if !f.connect(t, startServer(t, w).URL+"/api/v1/events?event=acquisition") {
		t.Fatal("no stream")
	}
	defer f.end()
	for _, want := range []string{"after", "after+", "after++"} {
		if limit := <-limits; limit < 1 || limit > 100 {
			t.Fatalf("%d at once", limit)
		}
		if e, ok := f.next(); !ok || e.name != api.EventAcquisition || !strings.Contains(e.data, `"`+want+`"`) {
			t.Fatalf("event %+v, want that of %s", e, want)
		}
	}
}

func TestResume_TooOldIsTold(t *testing.T) {
	w := newWorld()
	server := startServer(t, w)
	for _, age := range []time.Duration{25 * time.Hour, -time.Minute} {
		f := &follower{}
		asked := protocol.Arrival{Received: noon.Add(-age)}.String()
		if !f.connect(t, server.URL+"/api/v1/events?last_event_id="+asked) {
			t.Fatal("no stream")
		}
		e, ok := f.next()
		var what struct{ Asked, Message string }
		if err := json.Unmarshal([]byte(e.data), &what); !ok || e.name != api.EventReset || err != nil || what.Asked != asked || what.Message == "" {
			t.Errorf("%v ago: event %+v, %v", age, e, err)
		}
		f.end()
	}
}

func TestResume_TheHeaderCounts(t *testing.T) {
	w := newWorld()
	from := make(chan protocol.Arrival, 100) // more than there are kinds
	w.reader.arrivals = func(_ context.Context, _ protocol.Kind, after protocol.Arrival, _ []string, _ int) ([]protocol.StoredRecord, error) {
		from <- after
		return nil, context.Canceled // the stream breaks off here
	}
	want := protocol.Arrival{Received: noon.Add(-time.Hour), Kind: protocol.KindGap, Station: "torino", Spool: []byte("8 random"), Seq: 7}
	server := startServer(t, w)
	f := &follower{last: want.String()}
	if !f.connect(t, server.URL+"/api/v1/events?last_event_id=2026-11-24T11:30:00Z") {
		t.Fatal("no stream")
	}
	defer f.end()
	if e, ok := f.next(); ok {
		t.Errorf("event %+v of a store that fails", e)
	}
	if got := <-from; got.String() != want.String() {
		t.Errorf("read from %s, want %s", got, want)
	}
	for _, bad := range []string{"17", "torino/00/1", strings.Repeat("a", 1000), "9999-01-01T00:00:00Z"} {
		p := problem(t, get(t, w.handler(t), "GET", "/api/v1/events", "Last-Event-ID", bad))
		if p.Status != http.StatusBadRequest || p.Errors[0].Field != "Last-Event-ID" {
			t.Errorf("%.20s: %+v", bad, p)
		}
		p = problem(t, get(t, w.handler(t), "GET", "/api/v1/events?last_event_id="+bad))
		if p.Status != http.StatusBadRequest || p.Errors[0].Field != "last_event_id" {
			t.Errorf("%.20s: %+v", bad, p)
		}
	}
}
