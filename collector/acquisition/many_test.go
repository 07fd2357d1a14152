package acquisition_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// Fifty acquisitions at once on seven stations, of which one never answers, one is busy at first and one refuses: every one
// ends, with an account of each station. That no goroutine is left over is for TestMain to say.
func TestWhole_FiftyAtOnceOnSevenStations(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"SQLite":     sqliteURL,
		"PostgreSQL": func(t *testing.T) string { return servers.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) { fiftyAtOnce(t, database(t)) })
	}
}

func fiftyAtOnce(t *testing.T, database string) {
	const many = 50
	url := servers.Mosquitto(t).URL
	for i := range 5 {
		playAgent(t, url, fmt.Sprint("station-", i), follows)
	}
	playAgent(t, url, "busy", isBusyAtFirst)
	playAgent(t, url, "narrow", refuses)
	c := startCollectorOn(t, url, database)
	c.awaitStations(t, 7)
	took := make([]time.Duration, many)
	ids := make([]string, many)
	var posts sync.WaitGroup
	for i := range many {
		posts.Go(func() {
			req := protocol.AcquisitionRequest{FrequencyHz: 145.4e6 + 1e3*float64(i), DurationS: 0.1, Priority: i % 3}
			began := time.Now()
			a, err := c.Create(t.Context(), req)
			took[i] = time.Since(began)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = a.ID
		})
	}
	posts.Wait()
	began := time.Now()
	var ended []*protocol.Acquisition
	eventually(t, "all ended", func() bool {
		ended = nil
		for _, id := range ids {
			a, err := c.db.Acquisition(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if a.State != protocol.AcquisitionQueued && a.State != protocol.AcquisitionRunning {
				ended = append(ended, a)
			}
		}
		return len(ended) == many
	})
	slices.Sort(took)
	t.Logf("created in %v at the median, %v at most; all ended %v later", took[many/2], took[many-1], time.Since(began))
	for _, a := range ended {
		if a.State != protocol.AcquisitionDone || a.Progress != 100 || len(a.Stations) != 7 {
			t.Errorf("%s, want it done", sum(a))
		}
		for _, s := range a.Stations {
			switch {
			case s.Station == "narrow" && s.State == protocol.StationRefused && s.ReasonCode == "out_of_passband":
			case s.Station == "busy" && s.State == protocol.StationDone && s.Attempt == 1 && len(s.Measurement) > 0:
			case s.Station != "narrow" && s.Station != "busy" && s.State == protocol.StationDone && s.Attempt == 0 && len(s.Measurement) > 0:
			default:
				t.Errorf("%s: %+v", a.ID, s)
			}
		}
	}
	if n := c.commands.Pending(); n != 0 {
		t.Errorf("%d commands are still repeated", n)
	}
}
