package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// takenOverWithin is how soon another collector goes on with the jobs of a group.
const takenOverWithin = 15 * time.Second

// stands is how long the leader stands still.
const stands = 30 * time.Second

// TestStaleLeader stops the collector that does the jobs of its group for 30 s during load, and then kills the one that took over.
// Each time the other one goes on within 15 s. What the first one still wanted to do when it went on is refused, and nothing is
// missing or there twice. A trigger in the database notes for each removal who did it and who had the lease.
func TestStaleLeader(t *testing.T) {
	t.Parallel() // it waits most of the time
	roles := map[string]string{}
	p := newPairAs(t, "retention: {spectrum: 1s, measurement: 5s}\n", func(id, database string) string {
		roles[id] = fmt.Sprintf("%s%d", id, time.Now().UnixNano())
		mustSQL(t, database, "CREATE ROLE "+roles[id]+" LOGIN SUPERUSER")
		return strings.Replace(database, "heimdall@", roles[id]+"@", 1)
	})
	mustSQL(t, p.database, `CREATE TABLE removal (at timestamptz, by_role text, holder text, epoch bigint);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO removal SELECT clock_timestamp(), current_user, holder, epoch FROM lease WHERE name = 'jobs'; RETURN NEW; END $$;
		CREATE TRIGGER note AFTER UPDATE OF released ON spool FOR EACH ROW WHEN (OLD.released IS DISTINCT FROM NEW.released) EXECUTE FUNCTION note()`)
	fast := ", measurement: {every: 50ms}, spectrum: {every: 200ms}"
	p.agent(t, "north", simulated(t, "north"), fast)
	p.agent(t, "south", simulated(t, "south"), fast)
	p.waitOnline(2)
	collectors := map[string]*network{"one": p.network, "two": p.second}
	value := func(query string) string { return strings.TrimSpace(mustSQL(t, p.database, query)) }
	// leader waits for somebody else than before, who removes something, and gives the name.
	leader := func(before string) string {
		t.Helper()
		began, name := time.Now(), ""
		since := value("SELECT clock_timestamp()")
		eventually(t, time.Minute, "the jobs are done", func() error {
			by := value("SELECT split_part(holder, ' ', 1) FROM removal WHERE at > '" + since + "' ORDER BY at DESC LIMIT 1")
			if by == "" || by == before {
				return fmt.Errorf("the last removal was by %q", by)
			}
			name = by
			return nil
		})
		if took := time.Since(began); before != "" {
			t.Logf("%s goes on with the jobs %v after %s stopped", name, took.Round(100*time.Millisecond), before)
			if took > takenOverWithin {
				t.Errorf("it took %v, want %v at the most", took, takenOverWithin)
			}
		}
		return name
	}

	first := leader("")
	stopped := collectors[first]
	if err := servers.Pause(stopped.collector.cmd.Process); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	second := leader(first)
	time.Sleep(time.Until(paused.Add(stands)))
	if err := servers.Resume(stopped.collector.cmd.Process); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the stale leader has noticed", func() error {
		switch {
		case stopped.metric("heimdall_collector_jobs_leader") != 0:
			return errors.New("it believes to be the leader")
		case stopped.metric("heimdall_collector_leases_lost_total") < 1:
			return errors.New("it lost nothing: the test shows nothing")
		}
		return nil
	})
	collectors[second].collector.stop(syscall.SIGKILL)
	if third := leader(second); third != first {
		t.Errorf("%s goes on, want %s", third, first)
	}
	collectors[second].collector.start()

	if n := value("SELECT count(*) FROM removal WHERE by_role NOT LIKE split_part(holder, ' ', 1) || '%'"); n != "0" {
		t.Errorf("%s removals by another than who had the lease", n)
	}
	if n := value("SELECT count(*) FROM (SELECT epoch FROM removal GROUP BY epoch HAVING count(DISTINCT by_role) > 1) AS shared"); n != "0" {
		t.Errorf("%s terms with two at work", n)
	}
	for _, v := range p.waitVerified(3 * time.Minute) {
		if v.Gaps != 0 || v.Rejected != 0 || v.Duplicate != 0 || v.Released == 0 {
			t.Errorf("%+v", v)
		}
	}
}

// metric is a number of the collector's own; -1 when it does not say.
func (n *network) metric(name string) float64 {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.api+"/metrics", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				return -1
			}
			return v
		}
	}
	return -1
}
