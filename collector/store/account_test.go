package store_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func testAccounts(t *testing.T, s *server) {
	db := s.open(t)
	ctx := t.Context()
	station := protocol.Account{Username: "torino", Kind: protocol.AccountStation}
	reader := protocol.Account{Username: "sub-grafana", Kind: protocol.AccountSubscriber, Hash: "$7$101$c2FsdA==$aGFzaA=="}
	for _, a := range []protocol.Account{station, reader} {
		if err := db.PutAccount(ctx, a, "club"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.AddToken(ctx, protocol.Token{Name: "grafana", Role: protocol.RoleViewer}, "club"); err != nil {
		t.Fatal(err)
	}
	list, err := db.BrokerAccounts(ctx)
	if err != nil || len(list) != 2 || list[0].Username != "sub-grafana" || list[0].Hash != reader.Hash || !list[0].Password || list[1].Password || list[0].Created == "" {
		t.Fatalf("accounts %+v, %v; want the subscriber with its hash and the station without, and no token", list, err)
	}
	taken := protocol.Account{Username: "sub-grafana", Kind: protocol.AccountStation}
	if err := db.PutAccount(ctx, taken, "club"); err == nil {
		t.Error("a station took a subscriber's name")
	}

	for range 2 { // the second time it stays as it is
		if err := db.RevokeAccount(ctx, "sub-grafana", "club"); err != nil {
			t.Fatal(err)
		}
	}
	a, err := db.BrokerAccount(ctx, "sub-grafana")
	if err != nil || a.Revoked == "" || a.Hash != "" || a.Password {
		t.Errorf("revoked account %+v, %v; want no hash", a, err)
	}
	if err := db.PutAccount(ctx, reader, "club"); err != nil {
		t.Fatal(err)
	}
	if a, err := db.BrokerAccount(ctx, "sub-grafana"); err != nil || a.Revoked != "" || a.Hash != reader.Hash {
		t.Errorf("account made valid again %+v, %v", a, err)
	}
	if err := db.RemoveAccount(ctx, "torino", "club"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"torino", "token:grafana", "a\x00b", "a\xffb"} {
		if _, err := db.BrokerAccount(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("account %q: %v, want that there is none", name, err)
		}
		if err := db.RevokeAccount(ctx, name, "club"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("revoke %q: %v, want that there is none", name, err)
		}
	}
	for action, want := range map[string]int64{"station-add": 1, "subscriber-add": 2, "subscriber-revoke": 1, "station-remove": 1} {
		if n := s.number(t, "SELECT count(*) FROM audit WHERE actor = 'club' AND action = '"+action+"'"); n != want {
			t.Errorf("%d entries %s in the audit, want %d", n, action, want)
		}
	}
}
