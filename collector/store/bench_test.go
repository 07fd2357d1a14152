package store_test

import (
	"fmt"
	"testing"
)

// BenchmarkCommit stores batches of new measurements and reports rows per second.
func BenchmarkCommit(b *testing.B) {
	for _, server := range []struct {
		name  string
		start func(testing.TB) *server
	}{{"SQLite", sqliteServer}, {"PostgreSQL", postgresServer}, {"TimescaleDB", timescaleServer}} {
		for _, size := range []uint64{100, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", server.name, size), func(b *testing.B) {
				db := server.start(b).open(b)
				next := uint64(1)
				for b.Loop() {
					b.StopTimer()
					batch := measurements("torino", 1, next, next+size-1)
					b.StartTimer()
					commit(b, db, batch...)
					next += size
				}
				b.ReportMetric(float64(next-1)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
