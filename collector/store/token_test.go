package store_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// secretForm is what a program that looks for leaked secrets is told to look for.
var secretForm = regexp.MustCompile(`^hdt_[a-z2-7]{52}$`)

func testTokens(t *testing.T, s *server) {
	db := s.open(t)
	add := func(token protocol.Token) string {
		t.Helper()
		secret, err := db.AddToken(t.Context(), token, "local")
		if err != nil || !secretForm.MatchString(secret) {
			t.Fatalf("%q, %v", secret, err)
		}
		return secret
	}
	secret := add(protocol.Token{Name: "club", Role: protocol.RoleOperator, Stations: []string{"torino", "genova"}})
	short := add(protocol.Token{Name: "guest", Role: protocol.RoleViewer, Expires: protocol.FormatTime(time.Now().Add(time.Hour))})
	if secret == short {
		t.Error("two tokens have one secret")
	}
	for of, want := range map[string]protocol.Token{
		secret: {Name: "club", Role: protocol.RoleOperator, Stations: []string{"torino", "genova"}}, short: {Name: "guest", Role: protocol.RoleViewer},
	} {
		got, err := db.TokenOf(t.Context(), of)
		if diff := cmp.Diff(&want, got, cmpopts.IgnoreFields(protocol.Token{}, "Created", "Expires")); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	if list, err := db.Tokens(t.Context()); err != nil || len(list) != 2 || list[0].LastUsed != protocol.FormatTime(time.Now().Truncate(time.Hour)) || list[1].Expires == "" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, wrong := range []string{"", "hdt_", secret[:55], secret + "a", "HDT_" + secret[4:], secret[4:], "hdt_" + secret[5:] + "a"} {
		if _, err := db.TokenOf(t.Context(), wrong); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM account WHERE kind = 'token' AND length(secret) = 32"); n != 2 {
		t.Errorf("%d hashes are kept, want 2", n)
	}
	past := any(time.Now().Add(-time.Second))
	if s.sqlite() {
		past = past.(time.Time).UnixMicro()
	}
	s.exec(t, "UPDATE account SET expires = $1 WHERE account = 'token:guest'", past)
	for range 2 { // the second changes nothing
		if err := db.RevokeToken(t.Context(), "club", "chief"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ended := range []string{secret, short} {
		if _, err := db.TokenOf(t.Context(), ended); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a token that has ended: %v", err)
		}
	}
	for _, nobody := range []string{"nobody", "", "torino'", "a\x00"} {
		if err := db.RevokeToken(t.Context(), nobody, "local"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoke %q: %v", nobody, err)
		}
	}
	testAuditOf(t, db)
}

// testAuditOf reads what testTokens did, in pages of one.
func testAuditOf(t *testing.T, db *store.DB) {
	t.Helper()
	var got []string
	f := protocol.AuditFilter{Limit: 1}
	for range 10 {
		page, next, err := db.AuditEntries(t.Context(), f)
		if err != nil || len(page) != 1 {
			t.Fatalf("%d entries, %v", len(page), err)
		}
		got = append(got, page[0].Actor+" "+page[0].Action+" "+page[0].Subject)
		if f.Cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"chief token-revoke club", "local token-add guest", "local token-add club"}, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func testBadTokens(t *testing.T, s *server) {
	db := s.open(t)
	for field, token := range map[string]protocol.Token{
		"name":     {Name: "Club", Role: protocol.RoleViewer},
		"role":     {Name: "club", Role: "owner"},
		"stations": {Name: "club", Role: protocol.RoleAdmin, Stations: []string{"torino"}},
		"expires":  {Name: "club", Role: protocol.RoleViewer, Expires: "2001-01-01T00:00:00Z"},
	} {
		_, err := db.AddToken(t.Context(), token, "local")
		if faults, ok := errors.AsType[protocol.FieldErrors](err); !ok || len(faults) != 1 || faults[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	token := protocol.Token{Name: "club", Role: protocol.RoleViewer}
	if _, err := db.AddToken(t.Context(), token, "local"); err != nil {
		t.Fatal(err)
	}
	if err := db.RevokeToken(t.Context(), "club", "local"); err != nil {
		t.Fatal(err)
	}
	_, err := db.AddToken(t.Context(), token, "local")
	if faults, ok := errors.AsType[protocol.FieldErrors](err); !ok || faults[0].Field != "name" {
		t.Errorf("a name for the second time: %v", err)
	}
}

// testAuditPages reads entries of one moment, of which a page holds only some.
func testAuditPages(t *testing.T, s *server) {
	db := s.open(t)
	moment := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range 25 {
		at := any(moment.Add(time.Duration(i/10) * time.Second))
		if s.sqlite() {
			at = at.(time.Time).UnixMicro()
		}
		s.exec(t, "INSERT INTO audit (time, actor, action, subject) VALUES ($1, 'club', 'acquire', $2)", at, string(rune('a'+i)))
	}
	seen := map[string]int{}
	f := protocol.AuditFilter{Limit: 4, Actor: "club", Action: "acquire", From: moment}
	pages := 0
	for f.Cursor != "" || pages == 0 {
		page, next, err := db.AuditEntries(t.Context(), f)
		if err != nil || pages > 10 {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, e := range page {
			seen[e.Subject]++
		}
		f.Cursor = next
		pages++
	}
	for subject, n := range seen {
		if n != 1 {
			t.Errorf("%s comes %d times", subject, n)
		}
	}
	if len(seen) != 25 || pages != 7 {
		t.Errorf("%d entries on %d pages, want 25 on 7", len(seen), pages)
	}
	for name, f := range map[string]protocol.AuditFilter{"actor": {Actor: "none"}, "action": {Action: "none"}, "from": {From: moment.Add(time.Minute)}, "to": {To: moment}} {
		if page, _, err := db.AuditEntries(t.Context(), f); err != nil || len(page) != 0 {
			t.Errorf("%s: %d entries, %v", name, len(page), err)
		}
	}
	for _, cursor := range []string{"torn", "e30x", "eyJ0IjowLCJuIjotMX0"} {
		if _, _, err := db.AuditEntries(t.Context(), protocol.AuditFilter{Cursor: cursor}); !errors.As(err, new(protocol.FieldErrors)) {
			t.Errorf("cursor %s: %v", cursor, err)
		}
	}
}
