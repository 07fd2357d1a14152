package store_test

import (
	"fmt"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

// BenchmarkCreateAcquisitions stores 1 and 50 acquisitions of seven stations in one transaction.
func BenchmarkCreateAcquisitions(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *server{"SQLite": sqliteServer, "PostgreSQL": postgresServer} {
		for _, n := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				db := open(b).open(b)
				k := 0
				for b.Loop() {
					list := make([]*protocol.Acquisition, n)
					for i := range list {
						k++
						a := &protocol.Acquisition{ID: fmt.Sprintf("a%07d", k), State: protocol.AcquisitionQueued, Requested: "2026-11-24T02:00:00Z", StartTime: "2026-11-24T02:00:01Z"}
						for s := range 7 {
							a.Stations = append(a.Stations, protocol.AcquisitionStation{Station: fmt.Sprint("station-", s), State: protocol.StationQueued, CommandID: a.ID})
						}
						list[i] = a
					}
					if err := db.CreateAcquisitions(b.Context(), list); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
