package command_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fulgidus/heimdall/collector/command"
	"github.com/fulgidus/heimdall/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// air notes when which station was sent what.
type air struct {
	mu    sync.Mutex // guards all below
	began time.Time
	sent  []string // station@seconds
	down  bool
	hang  bool
}

func (a *air) Publish(ctx context.Context, topic string, retained bool, payload []byte) error {
	a.mu.Lock()
	down, hang := a.down, a.hang
	a.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errors.New("no session")
	}
	if retained {
		return errors.New("a command must not be retained")
	}
	if _, err := protocol.DecodeCommand(payload); err != nil {
		return err
	}
	parsed, err := protocol.Topics{}.Parse(topic)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent = append(a.sent, fmt.Sprintf("%s@%v", parsed.Station, time.Since(a.began)))
	return nil
}

func (a *air) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sent)
}

func order(lasts time.Duration) *protocol.Command {
	return &protocol.Command{
		Id: new(uuid.Must(uuid.NewV7()).String()), Issued: new(time.Now().UnixNano()), Expires: new(time.Now().Add(lasts).UnixNano()),
		Order: &protocol.Command_Capture{Capture: &protocol.Capture{DurationS: new(5.0), CenterHz: new(145.5e6)}},
	}
}

func simulate(t *testing.T, test func(t *testing.T, d *command.Dispatcher, a *air)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour) // fake time begins in 2000, before which no command can be
		a := &air{began: time.Now()}
		d := command.New(protocol.Topics{}, a, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		test(t, d, a)
		cancel()
		wg.Wait()
	})
}

func reply(station, id string) []protocol.StoredRecord {
	return []protocol.StoredRecord{
		{Record: &protocol.Record{Station: new(station), Body: &protocol.Record_Measurement{}}},
		{Record: &protocol.Record{Station: new(station), Body: &protocol.Record_Reply{Reply: &protocol.Reply{CommandId: new(id)}}}},
	}
}

func TestDispatcher_RepeatsUntilTheReply(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, a *air) {
		c := order(time.Hour)
		if err := d.Issue(t.Context(), "north", c); err != nil {
			t.Fatal(err)
		}
		if err := d.Issue(t.Context(), "north", c); err != nil { // again, as after a restart
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		synctest.Wait()
		want := []string{"north@0s", "north@2s", "north@6s", "north@14s", "north@30s", "north@1m0s", "north@1m30s"}
		if got := a.list(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
		d.Observe(t.Context(), reply("south", c.GetId())) // another station cannot answer for it
		if d.Pending() != 1 {
			t.Error("the reply of another station counted")
		}
		d.Observe(t.Context(), reply("north", c.GetId()))
		time.Sleep(time.Hour)
		if got := a.list(); len(got) != len(want) || d.Pending() != 0 {
			t.Errorf("sent %v after the reply", got[len(want):])
		}
	})
}

func TestDispatcher_GivesUpWhenTheCommandExpires(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, a *air) {
		if err := d.Issue(t.Context(), "north", order(5*time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got, want := a.list(), []string{"north@0s", "north@2s"}; !slices.Equal(got, want) || d.Pending() != 0 {
			t.Errorf("sent %v, want %v, and %d pending, want none", got, want, d.Pending())
		}
	})
}

func TestDispatcher_SendsOnceTheBrokerIsBack(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, a *air) {
		a.down = true
		c := order(time.Hour)
		if err := d.Issue(t.Context(), "north", c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		a.mu.Lock()
		a.down = false
		a.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := a.list(), []string{"north@11s"}; !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v: no attempt counted while the broker was away", got, want)
		}
		d.Forget(c.GetId())
		time.Sleep(time.Hour)
		if got := a.list(); len(got) != 1 {
			t.Errorf("sent %v after it was forgotten", got)
		}
	})
}

func TestDispatcher_OneStuckPublishHoldsUpNoOther(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, a *air) {
		a.hang = true
		if err := d.Issue(t.Context(), "north", order(time.Hour)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mu.Lock()
		a.hang = false
		a.mu.Unlock()
		if err := d.Issue(t.Context(), "south", order(time.Hour)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := a.list(), []string{"south@0s"}; !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

// gated has each publish wait until the test lets one go.
type gated struct {
	began chan string   // ids of commands whose publish has begun; holds more than a test makes
	let   chan struct{} // one value for each publish that may end; carries nothing
}

func (g *gated) Publish(ctx context.Context, _ string, _ bool, payload []byte) error {
	c, err := protocol.DecodeCommand(payload)
	if err != nil {
		return err
	}
	g.began <- c.GetId()
	select {
	case <-g.let:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestDispatcher_SendsTheMostUrgentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		g := &gated{began: make(chan string, 100), let: make(chan struct{})}
		d := command.New(protocol.Topics{}, g, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		issue := func(station string, priority int32) string {
			t.Helper()
			c := order(time.Hour)
			c.GetCapture().Priority = &priority
			if err := d.Issue(t.Context(), station, c); err != nil {
				t.Fatal(err)
			}
			return c.GetId()
		}
		for range 16 {
			issue("north", 0)
		}
		synctest.Wait()
		if n := len(g.began); n != 16 {
			t.Fatalf("%d publishes at once, want 16", n)
		}
		low, first, second, urgent := issue("north", -1), issue("north", 0), issue("north", 0), issue("north", 7)
		synctest.Wait()
		if n := len(g.began); n != 16 {
			t.Fatalf("%d publishes at once, want 16", n)
		}
		end := &protocol.Command{
			Id: new(uuid.Must(uuid.NewV7()).String()), Issued: new(time.Now().UnixNano()), Expires: new(time.Now().Add(time.Hour).UnixNano()),
			Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: &low}},
		}
		if err := d.Issue(t.Context(), "north", end); err != nil {
			t.Fatal(err)
		}
		issue("south", 0)
		synctest.Wait()
		if n := len(g.began); n != 17 {
			t.Errorf("%d publishes, want that to another station at once", n)
		}
		for range 17 {
			<-g.began
		}
		for i, want := range []string{end.GetId(), urgent, first, second, low} {
			g.let <- struct{}{}
			synctest.Wait()
			if len(g.began) == 0 { // south's was let go
				g.let <- struct{}{}
				synctest.Wait()
			}
			if got := <-g.began; got != want {
				t.Errorf("publish %d is of %s, want %s", i, got, want)
			}
		}
		cancel()
		wg.Wait()
	})
}

func TestIssue_RefusesWhatNoStationCouldFollow(t *testing.T) {
	d := command.New(protocol.Topics{}, &air{}, slog.New(slog.DiscardHandler))
	if err := d.Issue(t.Context(), "No Station", order(time.Hour)); err == nil {
		t.Error("a wrong station id was accepted")
	}
	c := order(time.Hour)
	c.Expires = nil
	if err := d.Issue(t.Context(), "north", c); err == nil {
		t.Error("a command without expiry was accepted")
	}
	for range 10_000 {
		if err := d.Issue(t.Context(), "north", order(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Issue(t.Context(), "north", order(time.Hour)); !errors.Is(err, command.ErrBusy) {
		t.Errorf("command 10,001: %v, want ErrBusy", err)
	}
}
