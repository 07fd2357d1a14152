package store_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// An account that may not make tables is told how to let it. Once others have made them, it needs no such leave.
func TestPostgreSQL_AccountWithoutLeave(t *testing.T) {
	s := postgresServer(t)
	account := fmt.Sprintf("Plain%d", time.Now().UnixNano()) // an account belongs to the whole server; it is to be quoted
	s.exec(t, fmt.Sprintf("CREATE ROLE %q LOGIN", account))
	var log strings.Builder
	db, err := store.Open(t.Context(), strings.Replace(s.url, "heimdall@", account+"@", 1), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	mayMigrate := func() error {
		t.Helper()
		d, err := db.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return db.MayMigrate(t.Context(), d)
	}
	grant := fmt.Sprintf("GRANT CREATE ON SCHEMA public TO %q", account)
	if err := mayMigrate(); err == nil || !strings.HasSuffix(err.Error(), ": "+grant) {
		t.Errorf("got %v, want the mend %s", err, grant)
	}
	if _, err := db.Migrate(t.Context()); err == nil || !strings.HasSuffix(err.Error(), ": "+grant) {
		t.Errorf("Migrate: got %v, want the mend %s", err, grant)
	}
	s.exec(t, grant)
	if err := mayMigrate(); err != nil {
		t.Errorf("it may: %v", err)
	}
	s.exec(t, strings.NewReplacer("GRANT", "REVOKE", " TO ", " FROM ").Replace(grant))
	s.open(t)
	s.exec(t, fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %q", account))
	s.exec(t, fmt.Sprintf("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO %q", account))
	if n, err := db.Migrate(t.Context()); err != nil || n != 0 {
		t.Errorf("in tables that others made: %d, %v", n, err)
	}
	if _, _, err := db.Commit(t.Context(), received, []*protocol.Record{measurement("torino", 1, 1)}, nil); err != nil {
		t.Errorf("in tables that others made: %v", err)
	}
	const readers = "role heimdall_read not made"
	if strings.Contains(log.String(), readers) {
		t.Errorf("the readers may, and yet:\n%s", log.String())
	}
	s.exec(t, "REVOKE SELECT ON record FROM heimdall_read")
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	const mend = `"CREATE ROLE heimdall_read NOLOGIN; GRANT USAGE ON SCHEMA public TO heimdall_read; GRANT SELECT ON record, spectrum_bin, `
	if text := log.String(); strings.Count(text, readers) != 1 || !strings.Contains(text, mend) || strings.Contains(text, `\n`) {
		t.Errorf("want one line with the mend:\n%s", text)
	}

	s.exec(t, fmt.Sprintf("ALTER ROLE %q SET search_path = nowhere", account))
	lost, err := store.Open(t.Context(), strings.Replace(s.url, "heimdall@", account+"@", 1), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	if _, err := lost.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "has no schema in the search path") {
		t.Errorf("without a schema: %v", err)
	}
}
