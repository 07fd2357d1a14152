package ingest_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// TestIngest_HeapIsBoundedWithoutDatabase floods a collector whose database is away, with the limits of every collector, and
// looks at the memory itself. Small messages cost most beside their payload.
func TestIngest_HeapIsBoundedWithoutDatabase(t *testing.T) {
	one := encode(t, measurement("s000", 1))
	many := make([][]byte, 0, 50)
	for seq := range uint64(50) {
		many = append(many, encode(t, measurement("s000", seq+1)))
	}
	batch, err := protocol.EncodeBatch(many)
	if err != nil {
		t.Fatal(err)
	}
	for name, flood := range map[string]struct {
		topic   string
		payload []byte
	}{"one a message": {"measurement", one}, "batches": {"batch", batch}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, nil, func(t *testing.T, r *rig) {
				r.db.set(func(m *memory) { m.down = errDown })
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				offered := 0
				for i := 0; offered < 160<<20; i++ { // two and a half times the limit, with what a message costs besides
					station := fmt.Sprintf("s%03d", i%200)
					r.send(station+"/"+flood.topic, bytes.Clone(flood.payload))
					offered += len(flood.payload) + 256
				}
				rest(time.Second)
				runtime.GC()
				runtime.ReadMemStats(&after)
				grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
				t.Logf("%d MiB on the heap for %d MiB that wait, of %d MiB offered", grown>>20, r.Stats().Waiting>>20, offered>>20)
				if r.Stats().Waiting < 60<<20 || r.Stats().Dropped == 0 {
					t.Errorf("%d bytes wait and %d messages were dropped: the limit was not met", r.Stats().Waiting, r.Stats().Dropped)
				}
				if grown > 80<<20 {
					t.Errorf("the heap grew by %d MiB, want at most a quarter more than the 64 MiB that may wait", grown>>20)
				}
			})
		})
	}
}
