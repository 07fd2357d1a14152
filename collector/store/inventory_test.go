package store_test

import (
	"slices"
	"testing"

	"github.com/fulgidus/heimdall/collector/store"
)

func testInventory(t *testing.T, s *server) {
	db := s.open(t)
	commit(t, db, measurements("torino", 1, 1, 500)...)
	got, err := db.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Migrations); n != newestMigration || got.Migrations[0].Name != "0001_tables" || got.Migrations[n-1].Applied.IsZero() {
		t.Errorf("migrations %+v", got.Migrations)
	}
	i := slices.IndexFunc(got.Tables, func(t store.TableSize) bool { return t.Name == "measurement" })
	if i < 0 || got.Tables[i].Bytes < 500*50 || len(got.Tables) < 15 {
		t.Errorf("tables %+v, want measurement with the bytes of 500 rows", got.Tables)
	}
	if !slices.IsSortedFunc(got.Tables, func(a, b store.TableSize) int { return int(b.Bytes - a.Bytes) }) {
		t.Errorf("not the largest first: %+v", got.Tables)
	}
}
