package store_test

import (
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func testAudit(t *testing.T, s *server) {
	db := s.open(t)
	detail := map[string]any{"label": "b\xffeacon", "stations": []string{"torino"}}
	if err := db.Audit(t.Context(), protocol.ActorLocal, "acquire", "a\x00b", detail); err != nil {
		t.Fatal(err)
	}
	if err := db.Audit(t.Context(), "club", "cancel", "", nil); err != nil {
		t.Fatal(err)
	}
	if n := s.number(t, "SELECT count(*) FROM audit WHERE actor = 'local' AND action = 'acquire' AND subject LIKE 'a%b' AND CAST(detail AS text) LIKE '%torino%'"); n != 1 {
		t.Errorf("%d entries of the order, want 1", n)
	}
	if n := s.number(t, "SELECT count(*) FROM audit WHERE actor = 'club' AND CAST(detail AS text) = '{}'"); n != 1 {
		t.Errorf("%d entries without details, want 1", n)
	}
	err := db.Audit(t.Context(), "club", "acquire", "", map[string]any{"label": "\x00"})
	if err == nil || !strings.Contains(err.Error(), "without NUL") {
		t.Errorf("NUL, which PostgreSQL's jsonb cannot hold: %v", err)
	}
}
