package acquisition_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/protocol"
)

// cancel cancels an acquisition and gives it as the caller of the API sees it.
func (r *rig) cancel(t *testing.T, a *protocol.Acquisition) *protocol.Acquisition {
	t.Helper()
	got, err := r.Cancel(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return got
}

// cancelOf is the id of the command that tells a station to stop; empty when it need not be told any more.
func (r *rig) cancelOf(a *protocol.Acquisition, station string) string {
	for _, s := range r.db.get(a.ID).Stations {
		if s.Station == station {
			return s.CancelID
		}
	}
	return ""
}

// answer has a station answer a command that is of no acquisition.
func (r *rig) answer(station, command string, state protocol.Reply_State) {
	r.observe(station, &protocol.Record{Body: &protocol.Record_Reply{Reply: &protocol.Reply{CommandId: &command, State: &state}}})
}

func (c *commander) isForgotten(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgotten[id]
}

func (c *commander) issues() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

func TestCancel_EndsWhatHasNotStarted(t *testing.T) {
	simulate(t, func(c *acquisition.Config) {
		c.Stations = stations{online("north"), online("south"), online("east"), online("west")}
	}, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.IQ = true
		a := r.create(t, req)
		r.reply(a, "south", protocol.Reply_STATE_ACCEPTED, nil)
		r.reply(a, "east", protocol.Reply_STATE_CAPTURING, nil)
		r.reply(a, "west", protocol.Reply_STATE_REFUSED, func(p *protocol.Reply) { p.ReasonCode = new("out_of_passband") })
		got := r.cancel(t, a)
		const want = "running 80% north=cancelled(cancelled) south=cancelled(cancelled) east=capturing west=refused(out_of_passband)"
		if s := sum(got); s != want {
			t.Errorf("answered %s\nwant %s", s, want)
		}
		r.expect(t, a, want)
		if got.CancelRequested != protocol.FormatTime(r.began) {
			t.Errorf("cancelled at %q, want now", got.CancelRequested)
		}
		for _, station := range []string{"north", "south"} {
			cmd := r.commands.order(t, r.cancelOf(a, station))
			if cmd.GetCancel().GetId() != commandOf(a, station) || time.Unix(0, cmd.GetExpires()).Sub(r.began) != 65500*time.Millisecond {
				t.Errorf("%s is told %v", station, cmd)
			}
			if !r.commands.isForgotten(commandOf(a, station)) {
				t.Errorf("%s is still told to capture", station)
			}
		}
		if r.cancelOf(a, "east") != "" || r.cancelOf(a, "west") != "" {
			t.Error("one that captures, or one that refused, is told to stop")
		}
		r.reply(a, "south", protocol.Reply_STATE_CAPTURING, nil) // it had begun, and said so too late
		r.reply(a, "south", protocol.Reply_STATE_DONE, manifest(4))
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec2", Station: "south", Acquisition: a.ID})
		r.reply(a, "east", protocol.Reply_STATE_DONE, manifest(4))
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec3", Station: "east", Acquisition: a.ID})
		r.expect(t, a, "done 100% north=cancelled(cancelled) south=cancelled(cancelled) east=done west=refused(out_of_passband)")
		if s := r.db.get(a.ID).Stations[1]; s.Recording != "rec2" {
			t.Errorf("recording of the cancelled station: %q, want it named", s.Recording)
		}
		if s := sum(r.cancel(t, a)); s != sum(r.db.get(a.ID)) {
			t.Errorf("cancelled again: %s", s)
		}
	})
}

func TestCancel_TellsAStationUntilItAnswers(t *testing.T) {
	simulate(t, func(c *acquisition.Config) {
		c.Stations = stations{online("north"), online("south"), online("east")}
	}, func(t *testing.T, r *rig) {
		a := r.create(t, fiveSeconds)
		r.cancel(t, a)
		r.expect(t, a, "cancelled 100% north=cancelled(cancelled) south=cancelled(cancelled) east=cancelled(cancelled)")
		north, south, east := r.cancelOf(a, "north"), r.cancelOf(a, "south"), r.cancelOf(a, "east")
		r.answer("south", north, protocol.Reply_STATE_DONE)                 // not its to answer
		r.answer("north", commandOf(a, "north"), protocol.Reply_STATE_DONE) // no cancel command
		rest(5 * time.Second)
		if r.cancelOf(a, "north") != north || r.commands.isForgotten(north) {
			t.Error("north is no longer told, and has not answered")
		}
		r.answer("north", north, protocol.Reply_STATE_REFUSED) // not_running
		r.reply(a, "south", protocol.Reply_STATE_CANCELLED, nil)
		rest(5 * time.Second)
		for station, id := range map[string]string{"north": north, "south": south} {
			if r.cancelOf(a, station) != "" || !r.commands.isForgotten(id) {
				t.Errorf("%s is still told, and has answered", station)
			}
		}
		rest(time.Minute)
		if r.cancelOf(a, "east") != "" || !r.commands.isForgotten(east) {
			t.Error("east is still told after the command to capture has expired")
		}
		r.expect(t, a, "cancelled 100% north=cancelled(cancelled) south=cancelled(cancelled) east=cancelled(cancelled)")
	})
}

func TestCancel_SurvivesItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		first := newRig(nil)
		stop := first.run(t)
		req := fiveSeconds
		req.StartTime = time.Now().Add(time.Hour).Format(time.RFC3339)
		a := first.create(t, req)
		first.reply(a, "north", protocol.Reply_STATE_ACCEPTED, nil)
		first.commands.mu.Lock()
		first.commands.err = errors.New("too many commands wait for a reply")
		first.commands.mu.Unlock()
		first.cancel(t, a) // nothing goes out any more
		stop()

		second := newRig(nil)
		second.db.rows = first.db.rows
		stop = second.run(t)
		rest(5 * time.Second)
		if n := second.commands.issues(); n != 2 {
			t.Errorf("%d commands issued after the restart, want two that cancel", n)
		}
		for _, station := range []string{"north", "south"} {
			if id := second.commands.order(t, second.cancelOf(a, station)).GetCancel().GetId(); id != commandOf(a, station) {
				t.Errorf("%s is told to end %s, want %s", station, id, commandOf(a, station))
			}
			second.answer(station, second.cancelOf(a, station), protocol.Reply_STATE_DONE)
		}
		stop()

		third := newRig(nil)
		third.db.rows = first.db.rows
		stop = third.run(t)
		rest(time.Minute)
		stop()
		if n := third.commands.issues(); n != 0 {
			t.Errorf("%d commands issued, and every station has answered", n)
		}
	})
}

func TestCancel_AnotherCollectorStopsRepeating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		one, other := newRig(nil), newRig(nil)
		other.db = one.db
		other.Conductor = acquisition.New(acquisition.Config{Store: one.db, Commander: other.commands, Stations: fixture()})
		stopOne, stopOther := one.run(t), other.run(t)
		a := one.create(t, fiveSeconds)
		if _, err := other.Cancel(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		rest(2 * time.Second)
		for _, station := range []string{"north", "south"} {
			if !one.commands.isForgotten(commandOf(a, station)) {
				t.Errorf("%s is still told to capture by the collector that began", station)
			}
			other.answer(station, one.cancelOf(a, station), protocol.Reply_STATE_DONE)
		}
		rest(20 * time.Second)
		one.expect(t, a, "cancelled 100% north=cancelled(cancelled) south=cancelled(cancelled)")
		stopOne()
		stopOther()
	})
}

func TestCancel_OfWhatIsNotThere(t *testing.T) {
	r := newRig(nil)
	if _, err := r.Cancel(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	r.db.fail(errors.New("connection refused"))
	if _, err := r.Cancel(context.Background(), "none"); err == nil {
		t.Error("cancelled without a store")
	}
}

// What is cancelled before its commands were sent is never ordered.
func TestCancel_BeforeTheCommandsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRig(nil)
		a := r.create(t, onlyNorth()) // while nothing runs that sends
		r.cancel(t, a)
		stop := r.run(t)
		rest(time.Second)
		if n := r.commands.issues(); n != 1 || r.commands.order(t, r.cancelOf(a, "north")).GetCancel() == nil {
			t.Errorf("%d commands, want only the one to stop", n)
		}
		stop()
	})
}
