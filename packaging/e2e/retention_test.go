package e2e_test

import (
	"crypto/sha512"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// TestRetention gives a collector a database of 20,000 old measurements and 150 captures (or HEIMDALL_RECORDINGS) whose chunks
// are in. It makes the recordings and removes nine tenths of the measurements, and later the recordings, with verify ending
// with 0 all the time, and with 1 once a row was deleted by hand.
func TestRetention(t *testing.T) {
	t.Parallel() // it waits most of the time
	captures := 150
	if n, err := strconv.Atoi(os.Getenv("HEIMDALL_RECORDINGS")); err == nil {
		captures = n
	}
	database := servers.Postgres(t)
	fillOld(t, database, 20_000, captures)
	n := newNetwork(t, database)
	text := string(readFile(t, n.config))
	restart := func(retention string) {
		t.Helper()
		n.collector.stop(syscall.SIGTERM)
		if err := os.WriteFile(n.config, []byte(text+"retention: {"+retention+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.collector.start()
		n.waitReady()
	}
	recorded := func() (count int) {
		out := mustSQL(t, database, "SELECT count(*) FROM recording")
		fmt.Sscan(out, &count)
		return count
	}
	eventually(t, 2*time.Minute, "all recordings are there", func() error {
		if got := recorded(); got != captures {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
	lines := n.waitVerified(10 * time.Second)
	if v := lines[0]; v.Stored != uint64(20_000+2*captures) || v.Released != 0 {
		t.Errorf("before: %+v", v)
	}
	restart("measurement: 90d")
	eventually(t, time.Minute, "nine tenths of the measurements are released", func() error {
		lines, code := n.verify(true)
		if code != 0 {
			t.Fatalf("verify ends with %d meanwhile: %+v", code, lines)
		}
		if lines[0].Released != 18_000 {
			return fmt.Errorf("released %d", lines[0].Released)
		}
		return nil
	})
	key := strings.TrimSpace(mustSQL(t, database, "SELECT id FROM recording ORDER BY id LIMIT 1"))
	if err := n.get("/api/v1/recordings/"+key+".sigmf-meta", nil); err != nil {
		t.Errorf("a recording cannot be read: %v", err)
	}
	mustSQL(t, database, "UPDATE recording SET stored = stored - interval '100 days'")
	restart("measurement: 90d")
	eventually(t, 2*time.Minute, "the recordings are removed", func() error {
		if got := recorded(); got != 0 {
			return fmt.Errorf("%d are there", got)
		}
		if left := strings.TrimSpace(mustSQL(t, database, "SELECT count(*) FROM recording_removed")); left != "0" {
			return fmt.Errorf("the objects of %s are there", left)
		}
		return nil
	})
	if lines := n.waitVerified(10 * time.Second); lines[0].Released != uint64(18_000+captures) {
		t.Errorf("after: %+v", lines[0])
	}
	mustSQL(t, database, "DELETE FROM measurement WHERE seq = (SELECT max(seq) FROM measurement)")
	if lines, code := n.verify(false); code != 1 || lines[0].Missing != 1 {
		t.Errorf("verify ends with %d after a row was deleted by hand: %+v", code, lines)
	}
}

// TestRetention_Places kills the collector at the places of the jobs that it does for its group, where a run of minutes does
// not come by. The database is told that the time of a killed holder's lease is over. Nothing is ever missing, and in the end
// everything is done.
func TestRetention_Places(t *testing.T) {
	t.Parallel() // it waits most of the time
	const measurements, captures = 20_000, 5
	database := servers.Postgres(t)
	n := newNetwork(t, database)
	n.collector.stop(syscall.SIGTERM)
	fillOld(t, database, measurements, captures)
	count := func(table string) string {
		return strings.TrimSpace(mustSQL(t, database, "SELECT count(*) FROM "+table))
	}
	endAt := func(place string) {
		t.Helper()
		mustSQL(t, database, "UPDATE lease SET until = clock_timestamp()")
		n.dieAt(t, place)
		if lines, code := n.verify(true); code != 0 || len(lines) == 0 {
			t.Errorf("verify ends with %d after %s: %+v", code, place, lines)
		}
	}
	for _, place := range []string{"archive.samples:1", "archive.stored:2", "lease.renew:1"} {
		endAt(place)
	}
	if got := count("recording"); got != strconv.Itoa(captures) {
		t.Errorf("%s recordings were made, want %d", got, captures)
	}
	text := string(readFile(t, n.config)) + "retention: {measurement: 90d}\n"
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	endAt("store.released:1")
	mustSQL(t, database, "UPDATE recording SET stored = stored - interval '100 days'")
	for _, place := range []string{"retention.row_removed:1", "archive.removed:1", "archive.removed:2", "retention.objects_removed:1"} {
		endAt(place)
	}
	mustSQL(t, database, "UPDATE lease SET until = clock_timestamp()")
	n.collector.start()
	n.waitReady()
	eventually(t, time.Minute, "all is removed", func() error {
		if rows, objects := count("recording"), count("recording_removed"); rows != "0" || objects != "0" {
			return fmt.Errorf("%s recordings and the objects of %s are there", rows, objects)
		}
		return nil
	})
	if lines := n.waitVerified(10 * time.Second); lines[0].Released != measurements*9/10+captures {
		t.Errorf("after: %+v", lines[0])
	}
}

// fillOld stores measurements of which nine tenths arrived 200 days ago, and captures of one chunk each that arrived today.
func fillOld(t *testing.T, database string, measurements, captures int) {
	t.Helper()
	db, err := store.Open(t.Context(), database, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	seq := uint64(0)
	next := func(at time.Time) *protocol.Record {
		seq++
		return &protocol.Record{Station: new("old"), Spool: []byte("12345678"), Seq: new(seq), Time: new(at.UnixNano()), Receiver: new("r0")}
	}
	var batch []*protocol.Record
	commit := func(at time.Time) {
		t.Helper()
		if _, _, err := db.Commit(t.Context(), at, batch, nil); err != nil {
			t.Fatal(err)
		}
		batch = nil
	}
	for i := range measurements {
		at := now.Add(-200 * 24 * time.Hour)
		if i >= measurements*9/10 {
			at = now
		}
		r := next(at.Add(time.Duration(i-measurements) * time.Second))
		r.Body = &protocol.Record_Measurement{Measurement: &protocol.Measurement{PowerDbfs: new(float32(-40))}}
		if batch = append(batch, r); len(batch) == 2000 {
			commit(at)
		}
	}
	for i := range captures {
		id, data := fmt.Sprintf("capture-%04d", i), fmt.Appendf(nil, "samples of %07d", i)
		sum := sha512.Sum512(data)
		chunk, reply := next(now), next(now)
		chunk.Body = &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: &id, Index: new(uint32(0)), FirstSample: new(uint64(0)), Samples: new(uint32(len(data) / 2)), Data: data}}
		reply.Body = &protocol.Record_Reply{Reply: &protocol.Reply{State: protocol.Reply_STATE_DONE.Enum(), Capture: &protocol.CaptureManifest{
			Id: &id, Start: new(now.UnixNano()), CenterHz: new(145.5e6), SampleRateHz: new(12.5e3), Format: new("cu8"),
			Chunks: new(uint32(1)), Bytes: new(uint64(len(data))), Sha512: sum[:],
		}}}
		if batch = append(batch, chunk, reply); len(batch) >= 1000 || i == captures-1 {
			commit(now)
		}
	}
}
