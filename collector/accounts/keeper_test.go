package accounts_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// board is a broker that writes down whom it knows.
type board struct {
	known map[string]string // passwords by username
	away  error
	told  chan struct{} // capacity 1: it was made to agree
}

func newBoard() *board { return &board{known: map[string]string{}, told: make(chan struct{}, 1)} }

func (b *board) Repair(_ context.Context, valid []protocol.Account) error {
	if b.away != nil {
		return b.away
	}
	was := b.known
	b.known = map[string]string{}
	for _, a := range valid {
		b.known[a.Username] = was[a.Username]
	}
	select {
	case b.told <- struct{}{}:
	default:
	}
	return nil
}

func (b *board) Set(_ context.Context, a protocol.Account, password string) error {
	if b.away == nil {
		b.known[a.Username] = password
	}
	return b.away
}

func (b *board) Drop(_ context.Context, a protocol.Account) error {
	if b.away == nil {
		delete(b.known, a.Username)
	}
	return b.away
}

func (*board) Note() string { return "" }

func openStore(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "heimdall.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func faultOf(t *testing.T, err error) string {
	t.Helper()
	faults, ok := errors.AsType[protocol.FieldErrors](err)
	if !ok || len(faults) != 1 {
		t.Fatalf("got %v, want one fault", err)
	}
	return faults[0].Field
}

// ensure makes sure of a station that stays.
func ensure(t *testing.T, k *accounts.Keeper, id string) error {
	t.Helper()
	_, err := k.EnsureStation(t.Context(), id, "club")
	return err
}

// What is undone is as it was: no account, a revoked one, or one with a password.
func TestKeeper_UndoesAStation(t *testing.T) {
	b := newBoard()
	k := accounts.New(openStore(t), b, "gatherer", slog.New(slog.DiscardHandler))
	ctx := t.Context()
	_, err := k.AddStation(ctx, "genova", "club")
	if err := errors.Join(err, ensure(t, k, "aosta"), k.DisableStation(ctx, "aosta", "club")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"torino", "aosta", "genova"} {
		undo, err := k.EnsureStation(ctx, id, id)
		if _, known := b.known[id]; err != nil || !known {
			t.Fatalf("%s: known %v, %v", id, known, err)
		}
		if err := undo(ctx); err != nil {
			t.Fatal(err)
		}
	}
	b.away = errors.New("not at home")
	undo, err := k.EnsureStation(ctx, "torino", "torino")
	if !errors.Is(err, b.away) {
		t.Errorf("a broker that is away: %v", err)
	}
	b.away = nil
	if err := undo(ctx); err != nil {
		t.Error(err)
	}
	list, err := k.List(ctx)
	if err != nil || len(list) != 2 || list[0].Username != "aosta" || list[0].Revoked == "" || list[1].Username != "genova" || !list[1].Password || list[1].Revoked != "" {
		t.Errorf("accounts %+v, %v; want aosta, revoked, and genova with its password", list, err)
	}
	if _, known := b.known["genova"]; len(b.known) != 1 || !known {
		t.Errorf("the broker knows %v", b.known)
	}
}

func TestKeeper_TellsTheBroker(t *testing.T) {
	b := newBoard()
	k := accounts.New(openStore(t), b, "gatherer", slog.New(slog.DiscardHandler))
	ctx := t.Context()
	password, err := k.AddSubscriber(ctx, "grafana", "club")
	if err != nil || b.known["sub-grafana"] != password || len(password) < 22 {
		t.Fatalf("the broker knows %v, %v", b.known, err)
	}
	for range 2 { // it may be repeated
		if err := ensure(t, k, "torino"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.AddStation(ctx, "genova", "club"); err != nil {
		t.Fatal(err)
	}

	_, err = k.AddSubscriber(ctx, "grafana", "club")
	if field := faultOf(t, err); field != "name" {
		t.Errorf("a second one of a name: fault in %s", field)
	}
	if field := faultOf(t, ensure(t, k, "sub-grafana")); field != "id" {
		t.Errorf("a station with a subscriber's name: fault in %s", field)
	}
	if err := ensure(t, k, "sub-hut"); err != nil {
		t.Fatal(err)
	}
	_, err = k.AddSubscriber(ctx, "hut", "club")
	if field := faultOf(t, err); field != "name" {
		t.Errorf("a subscriber with a station's name: fault in %s", field)
	}
	for _, bad := range []string{"", "A", "-a", "a/b", "+", "this-name-is-far-too-long-for-one"} {
		_, err := k.AddSubscriber(ctx, bad, "club")
		if field := faultOf(t, err); field != "name" {
			t.Errorf("subscriber %q: fault in %s", bad, field)
		}
	}
	if field := faultOf(t, ensure(t, k, "collector")); field != "id" {
		t.Errorf("a station that is named as collectors are: fault in %s", field)
	}

	if field := faultOf(t, ensure(t, k, "gatherer")); field != "id" {
		t.Errorf("a station that is named as this collector's account: fault in %s", field)
	}
	if err := errors.Join(k.DisableStation(ctx, "torino", "club"), k.RemoveStation(ctx, "genova", "club"), k.RevokeSubscriber(ctx, "grafana", "club")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"sub-hut": ""}, b.known); diff != "" {
		t.Errorf("the broker knows (-want +got):\n%s", diff)
	}
	if err := k.DisableStation(ctx, "genova", "club"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a station that was removed: %v", err)
	}
	again, err := k.AddSubscriber(ctx, "grafana", "club")
	if err != nil || again == password {
		t.Errorf("the name again: %v, and the password is another: %t", err, again != password)
	}
}

func TestKeeper_ABrokerThatIsAwayIsToldLater(t *testing.T) {
	b := newBoard()
	db := openStore(t)
	k := accounts.New(db, b, "gatherer", slog.New(slog.DiscardHandler))
	ctx := t.Context()
	if _, err := k.AddSubscriber(ctx, "grafana", "club"); err != nil {
		t.Fatal(err)
	}
	b.away = errors.New("not at home")
	if err := k.RevokeSubscriber(ctx, "grafana", "club"); !errors.Is(err, b.away) {
		t.Errorf("revoked at a broker that is away: %v", err)
	}
	if _, err := k.AddSubscriber(ctx, "hut", "club"); !errors.Is(err, b.away) {
		t.Errorf("added at a broker that is away: %v", err)
	}
	b.away = nil
	list, err := k.List(ctx)
	if err != nil || len(list) != 2 || list[0].Revoked == "" || list[1].Revoked == "" {
		t.Errorf("accounts %+v, %v; want both revoked", list, err)
	}

	running, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- k.Run(running) }()
	select {
	case <-b.told:
	case <-time.After(10 * time.Second):
		t.Error("the broker is not told")
	}
	stop()
	if err := <-ended; err != nil || len(b.known) != 0 {
		t.Errorf("the broker knows %v, %v", b.known, err)
	}
}

func TestKeeper_NoAccountsWithoutABackend(t *testing.T) {
	k := accounts.New(openStore(t), nil, "gatherer", slog.New(slog.DiscardHandler))
	_, err := k.AddSubscriber(t.Context(), "grafana", "club")
	if field := faultOf(t, err); field != "mqtt.accounts" {
		t.Errorf("a subscriber of a broker that lets everybody in: fault in %s", field)
	}
	if err := errors.Join(ensure(t, k, "torino"), k.DisableStation(t.Context(), "torino", "club"), k.Repair(t.Context())); err != nil {
		t.Error(err)
	}
}
