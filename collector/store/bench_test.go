package store_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkCommit stores batches of new measurements and reports rows per second.
func BenchmarkCommit(b *testing.B) {
	for name, start := range map[string]func(testing.TB) *server{"SQLite": sqliteServer, "PostgreSQL": postgresServer} {
		for _, size := range []uint64{100, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				db := start(b).open(b)
				next := uint64(1)
				begin := time.Now()
				for b.Loop() {
					b.StopTimer()
					batch := measurements("torino", 1, next, next+size-1)
					b.StartTimer()
					commit(b, db, batch...)
					next += size
				}
				_ = begin
				b.ReportMetric(float64(next-1)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
