package e2e_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// outbox shows a spool to the link, as the agent does.
type outbox struct{ *spool.Spool }

func (o outbox) Next(ctx context.Context) (link.Item, error) {
	item, err := o.Spool.Next(ctx)
	return link.Item(item), err
}

// backlogs is how many stations have how long a backlog: 3 of 5,000 records, or 7 of what HEIMDALL_DRAIN says.
func backlogs(t *testing.T) (stations, records int) {
	t.Helper()
	text := os.Getenv("HEIMDALL_DRAIN")
	if text == "" {
		return 3, 5000
	}
	records, err := strconv.Atoi(text)
	if err != nil || records < 1 {
		t.Fatalf("HEIMDALL_DRAIN=%q: want a number of records a station", text)
	}
	return 7, records
}

// latest is how late a live record may be while backlogs drain.
const latest = 5 * time.Second

// TestDrain_LiveGoesFirst lets several stations come back at once, each with a backlog and a new measurement a second.
func TestDrain_LiveGoesFirst(t *testing.T) {
	count, records := backlogs(t)
	n := newNetwork(t, servers.Postgres(t))
	stations := make([]*spool.Spool, count)
	for i := range stations {
		stations[i] = openBacklog(t, stationName(i), records)
	}
	began := time.Now()
	var live sync.WaitGroup
	drained := make(chan struct{}) // closed when all is acknowledged; carries nothing
	for i, s := range stations {
		connect(t, n.broker.URL, stationName(i), s)
		live.Go(func() { measureLive(t, stationName(i), s, drained) })
	}
	eventually(t, 5*time.Minute, "the backlogs are drained", func() error {
		for i, s := range stations {
			if left := s.Unacked().Count(); left > 5 {
				return fmt.Errorf("%s still holds %d records", stationName(i), left)
			}
		}
		return nil
	})
	took := time.Since(began)
	time.Sleep(4 * time.Second) // some live ones after it
	close(drained)
	live.Wait()
	n.waitVerified(time.Minute)
	worst, measured := time.Duration(0), 0
	for i := range stations {
		late, live := n.lateness(stationName(i), began)
		worst, measured = max(worst, late), measured+live
	}
	if worst > latest || measured < count*2 {
		t.Errorf("of %d live records the latest was %v late, want at most %v", measured, worst, latest)
	}
	t.Logf("%d stations with %d records each drained in %v; of %d live records the latest was stored %v after it was made",
		count, records, took.Round(time.Millisecond), measured, worst.Round(time.Millisecond))
}

func stationName(i int) string { return fmt.Sprintf("drain-%d", i) }

func levelAt(t *testing.T, station string, at time.Time, n int) []byte {
	t.Helper()
	payload, err := protocol.Encode(&protocol.Record{
		Station: &station, Time: new(at.UnixNano()), Receiver: new("r0"), Step: new("2m"),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			DurationS: new(1.0), CenterHz: new(145.5e6), Samples: new(uint64(48000 + n)), PowerDbfs: new(float32(-40) - float32(n%100)/10),
			NoiseFloorDbfsHz: new(float32(-90) + float32(n%37)/10),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// openBacklog opens a spool and fills it with measurements of the last hours.
func openBacklog(t *testing.T, station string, records int) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Options{Station: station})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s.Run)
	first := time.Now().Add(-time.Duration(records+60) * time.Second)
	for i := range records {
		put := s.Queue
		if (i+1)%1000 == 0 || i+1 == records {
			put = s.Put
		}
		payload := levelAt(t, station, first.Add(time.Duration(i)*time.Second), i)
		if _, err := put(t.Context(), spool.LaneMeasurement, protocol.KindMeasurement, payload); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// runUntilEnd runs a part of a station until the test ends.
func runUntilEnd(t *testing.T, part func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := part(ctx); err != nil {
			t.Errorf("a station ended: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// connect brings a station's link up.
func connect(t *testing.T, broker, station string, s *spool.Spool) {
	t.Helper()
	l, err := link.New(link.Config{
		Station: station, URL: broker, Queue: outbox{s}, Settler: s,
		Handler: func(context.Context, *protocol.Command) {}, Answer: func(context.Context, *protocol.Reply) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, l.Run)
}

// measureLive puts a measurement a second.
func measureLive(t *testing.T, station string, s *spool.Spool, until <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-until:
			return
		case now := <-tick.C:
			if _, err := s.Queue(context.Background(), spool.LaneMeasurement, protocol.KindMeasurement, levelAt(t, station, now, n)); err != nil {
				t.Errorf("%s: %v", station, err)
				return
			}
		}
	}
}

// lateness is how long the latest of a station's measurements since a time took from its making to the database.
func (n *network) lateness(station string, since time.Time) (worst time.Duration, measurements int) {
	n.t.Helper()
	query := url.Values{"station": {station}, "from": {since.UTC().Format(time.RFC3339Nano)}, "limit": {"1000"}}
	var list struct {
		Items []struct{ Time, Received time.Time }
	}
	if err := n.get("/api/v1/measurements?"+query.Encode(), &list); err != nil {
		n.t.Fatal(err)
	}
	for _, item := range list.Items {
		worst = max(worst, item.Received.Sub(item.Time))
	}
	return worst, len(list.Items)
}
