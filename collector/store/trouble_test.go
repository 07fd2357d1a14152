package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// within is a URL with settings of the session.
func within(url string, settings ...string) string {
	for _, s := range settings {
		separator := "?"
		if strings.Contains(url, "?") {
			separator = "&"
		}
		url += separator + s
	}
	return url
}

// wantTransient fails the test unless an error says to try again.
func wantTransient(t *testing.T, what string, err error) {
	t.Helper()
	var own *store.Error
	if !errors.As(err, &own) || !own.Transient() {
		t.Errorf("%s: %v, want a transient error", what, err)
	}
}

// TestPostgreSQL_TroubleThatPasses has the server refuse commits as it does behind a long lock, with a statement time-out
// and after a fail-over to a standby. Each may be repeated, and the records are in once.
func TestPostgreSQL_TroubleThatPasses(t *testing.T) {
	s := postgresServer(t)
	db := s.open(t)
	commit(t, db, measurements("torino", 1, 1, 10)...)

	// Somebody holds the ledger for longer than the collector waits, or the server lets it.
	tx, err := s.raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT 1 FROM spool FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err = db.Commit(ctx, received, measurements("torino", 1, 5, 20), nil)
	wantTransient(t, "while a lock is held", err)
	for _, setting := range []string{"lock_timeout=100ms", "statement_timeout=100ms"} {
		impatient := (&server{url: within(s.url, setting), raw: s.raw}).openUnmigrated(t)
		_, _, err = impatient.Commit(t.Context(), received, measurements("torino", 1, 5, 20), nil)
		wantTransient(t, setting, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}

	standby := (&server{url: within(s.url, "default_transaction_read_only=on"), raw: s.raw}).openUnmigrated(t)
	_, _, err = standby.Commit(t.Context(), received, measurements("torino", 1, 5, 20), nil)
	wantTransient(t, "read-only", err)
	if _, err := standby.Verify(t.Context(), "", true); err != nil {
		t.Errorf("to verify on a standby: %v", err)
	}

	if fresh, _ := commit(t, db, measurements("torino", 1, 5, 20)...); fresh[0] || !fresh[15] {
		t.Errorf("fresh %v", fresh)
	}
	if v := verdict(t, db, streamOf("torino", 1), true); !v.OK() || v.Stored != 20 {
		t.Errorf("verdict %+v", v)
	}
}

// TestPostgreSQL_StoppedInATransaction stops a collector with SIGSTOP while it commits. The server ends its sessions after a
// time, here a second, so that another collector can go on with the same spool.
func TestPostgreSQL_StoppedInATransaction(t *testing.T) {
	s := postgresServer(t)
	db := s.open(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), "HEIMDALL_TEST_COMMIT_UNTIL_KILLED="+within(s.url, "idle_in_transaction_session_timeout=1s"))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("it has committed nothing")
	}
	drained := make(chan struct{}) // closed when the child has closed its output
	defer func() {
		_ = child.Process.Kill()
		<-drained
		_ = child.Wait() // it was killed
	}()
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			continue
		}
	}()
	const idle = "SELECT count(*) FROM pg_stat_activity AS a WHERE datname = current_database() AND state = 'idle in transaction'"
	stopped := false // with its ledger locked
	waitFor(t, "it was stopped inside a transaction", func() bool {
		if err := servers.Pause(child.Process); err != nil {
			t.Fatal(err)
		}
		stopped = s.number(t, idle+" AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND relation = 'spool'::regclass AND mode = 'RowShareLock')") > 0
		if !stopped {
			if err := servers.Resume(child.Process); err != nil {
				t.Fatal(err)
			}
		}
		return stopped
	})
	began := time.Now()
	if fresh, _ := commit(t, db, measurement("torino", 1, 1<<40)); !fresh[0] {
		t.Error("the record was not new")
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("the other collector waited %v, want about a second", took)
	}
	if n := s.number(t, idle); n != 0 {
		t.Errorf("%d sessions stand still inside a transaction", n)
	}
	if v := verdict(t, db, streamOf("torino", 1), false); v.Duplicate != 0 {
		t.Errorf("verdict %+v", v)
	}
}

// TestPostgreSQL_IdleTransactionsAreBounded looks at the setting of the sessions.
func TestPostgreSQL_IdleTransactionsAreBounded(t *testing.T) {
	s := postgresServer(t)
	db := s.open(t)
	l := takeLease(t, db, "one", time.Minute)
	var setting string
	err := l.Transact(t.Context(), readSetting(t.Context(), &setting))
	if err != nil || setting != "3s" {
		t.Errorf("idle transactions under a lease end after %q, %v; want 3s", setting, err)
	}
	err = db.Transact(t.Context(), readSetting(t.Context(), &setting))
	if err != nil || setting != "5s" {
		t.Errorf("idle transactions end after %q, %v; want 5s", setting, err)
	}
}

func readSetting(ctx context.Context, into *string) func(*sql.Tx, time.Time) error {
	return func(tx *sql.Tx, _ time.Time) error {
		return tx.QueryRowContext(ctx, "SELECT current_setting('idle_in_transaction_session_timeout')").Scan(into)
	}
}
