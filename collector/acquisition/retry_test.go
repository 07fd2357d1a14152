package acquisition_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/protocol"
)

// no is a reply that refuses for a reason.
func no(code string) func(*protocol.Reply) {
	return func(p *protocol.Reply) { p.ReasonCode, p.Message = &code, new("because of "+code) }
}

// attempt waits until a station is asked once more and gives the acquisition as it is then, and how long that took.
func (r *rig) attempt(t *testing.T, a *protocol.Acquisition) (*protocol.Acquisition, time.Duration) {
	t.Helper()
	began, issued := time.Now(), r.commands.issues()
	for r.commands.issues() == issued {
		if time.Since(began) > 24*time.Hour {
			t.Fatalf("not asked again: %s", sum(r.db.get(a.ID)))
		}
		rest(time.Second)
	}
	return r.db.get(a.ID), time.Since(began)
}

func onlyNorth() protocol.AcquisitionRequest {
	req := fiveSeconds
	req.Stations = []string{"north"}
	return req
}

func TestRetry_AsksAgainUnderAnotherID(t *testing.T) {
	for _, code := range []string{"busy", "receiver_offline", "interrupted", "clock_uncertain"} {
		simulate(t, nil, func(t *testing.T, r *rig) {
			first := r.create(t, onlyNorth())
			r.reply(first, "north", protocol.Reply_STATE_ACCEPTED, nil)
			r.reply(first, "north", protocol.Reply_STATE_FAILED, no(code))
			r.expect(t, first, "running 10% north=queued("+code+")")
			if s := r.db.get(first.ID).Stations[0]; s.Message != "because of "+code || s.Attempt != 1 || s.NextAttempt == "" {
				t.Errorf("waiting as %+v", s)
			}
			second, _ := r.attempt(t, first)
			r.expect(t, first, "running 10% north=sent("+code+")")
			was, is := r.commands.order(t, commandOf(first, "north")), r.commands.order(t, commandOf(second, "north"))
			if was.GetId() == is.GetId() || was.GetCapture().GetStart() != is.GetCapture().GetStart() || was.GetExpires() != is.GetExpires() {
				t.Errorf("asked %v, and again %v; want another id, and the same start and expiry", was, is)
			}
			r.reply(first, "north", protocol.Reply_STATE_DONE, manifest(0)) // late words of the first attempt
			r.reply(first, "north", protocol.Reply_STATE_REFUSED, no("internal"))
			r.expect(t, first, "running 10% north=sent("+code+")")
			if !r.commands.isForgotten(was.GetId()) {
				t.Error("the command of the first attempt is still repeated")
			}
			r.reply(second, "north", protocol.Reply_STATE_ACCEPTED, nil)
			r.expect(t, first, "running 10% north=accepted")
			r.reply(second, "north", protocol.Reply_STATE_DONE, manifest(0))
			r.expect(t, first, "done 100% north=done")
		})
	}
}

// The pauses double while the start is past, and the last answer stands when the time is over.
func TestRetry_EndsWithTheDeadline(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, onlyNorth())
		now := a
		asked := 1
		for ; now.State == protocol.AcquisitionRunning || now.State == protocol.AcquisitionQueued; asked++ {
			r.reply(now, "north", protocol.Reply_STATE_REFUSED, no("receiver_offline"))
			if s := r.db.get(a.ID).Stations[0]; s.State == protocol.StationRefused {
				break
			}
			now, _ = r.attempt(t, now)
		}
		r.expect(t, a, "failed 100% north=refused(receiver_offline)")
		if asked < 5 || asked > 10 {
			t.Errorf("asked %d times in a minute and 5 s, want pauses that double from 1 s", asked)
		}
		if took := time.Since(r.began); took < 20*time.Second || took > 65*time.Second {
			t.Errorf("given up after %v", took)
		}
		if got, want := r.db.get(a.ID).Stations[0].Message, fmt.Sprintf("because of receiver_offline (asked %d times)", asked); got != want {
			t.Errorf("message %q, want %q", got, want)
		}
		count := r.commands.issues()
		rest(time.Hour)
		if n := r.commands.issues(); n != count {
			t.Errorf("asked %d times more after the end", n-count)
		}
	})
}

func TestRetry_TellsWhatWasBeforeTheLastAnswer(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, onlyNorth())
		r.reply(a, "north", protocol.Reply_STATE_FAILED, no("interrupted"))
		again, _ := r.attempt(t, a)
		r.reply(again, "north", protocol.Reply_STATE_REFUSED, no("history_exceeded"))
		r.expect(t, a, "failed 100% north=refused(history_exceeded)")
		if got, want := r.db.get(a.ID).Stations[0].Message, "because of history_exceeded (asked 2 times; at first: because of interrupted)"; got != want {
			t.Errorf("message %q, want %q", got, want)
		}
	})
}

// While the collector asks again by itself, and when it has done all it could, nobody is told to do so.
func TestRetry_NamesTheFirstCauseAndNotWhatIsDoneAnyway(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, onlyNorth())
		say := func(code, message string) func(*protocol.Reply) {
			return func(p *protocol.Reply) { p.ReasonCode, p.Message = &code, &message }
		}
		now := a
		for i, c := range []struct{ code, message, want string }{
			{"receiver_offline", `receiver "vhf" is not connected: order it again when it is`, `receiver "vhf" is not connected`},
			{"busy", "64 orders are under way: order it again when one has ended", `64 orders are under way (at first: receiver "vhf" is not connected)`},
			{"busy", "63 orders are under way: order it again", `63 orders are under way (at first: receiver "vhf" is not connected)`},
		} {
			r.reply(now, "north", protocol.Reply_STATE_REFUSED, say(c.code, c.message))
			if s := r.db.get(a.ID).Stations[0]; s.Message != c.want || s.ReasonCode != c.code || s.State != protocol.StationQueued {
				t.Errorf("answer %d: %s (%s) %q, want %q", i+1, s.State, s.ReasonCode, s.Message, c.want)
			}
			now, _ = r.attempt(t, now)
		}
		rest(2 * time.Minute)
		s := r.db.get(a.ID).Stations[0]
		if s.State != protocol.StationExpired || !strings.HasSuffix(s.Message, ` (asked 4 times; at first: receiver "vhf" is not connected)`) {
			t.Errorf("in the end %s: %q", s.State, s.Message)
		}

		b := r.create(t, onlyNorth()) // nobody asks again after a cancel: then the advice is right
		r.reply(b, "north", protocol.Reply_STATE_CAPTURING, nil)
		r.cancel(t, b)
		r.reply(b, "north", protocol.Reply_STATE_FAILED, say("interrupted", "the agent stopped: order it again"))
		if s := r.db.get(b.ID).Stations[0]; s.Message != "the agent stopped: order it again" {
			t.Errorf("after a cancel: %q", s.Message)
		}
	})
}

// A station is asked with growing frequency towards the start, and shortly before it.
func TestRetry_IsThereWhenTheStartComes(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := onlyNorth()
		start := time.Now().Add(6 * time.Hour)
		req.StartTime = start.Format(time.RFC3339Nano)
		a := r.create(t, req)
		now := a
		var last time.Time
		asked := 1
		for time.Now().Before(start) {
			last = time.Now()
			r.reply(now, "north", protocol.Reply_STATE_REFUSED, no("receiver_offline"))
			now, _ = r.attempt(t, now)
			asked++
		}
		if before := start.Sub(last); before > 3*time.Second {
			t.Errorf("last asked %v before the start, want within 3 s", before)
		}
		if asked > 150 {
			t.Errorf("asked %d times in 6 hours", asked)
		}
	})
}

func TestRetry_NotWhereOthersHaveTheReceiver(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := onlyNorth()
		start := time.Now().Add(time.Minute)
		req.StartTime = start.Format(time.RFC3339Nano)
		free := start.Add(20 * time.Second)
		busy := func(p *protocol.Reply) { no("busy")(p); p.EarliestStart = new(free.UnixNano()) }

		a := r.create(t, req) // there is time for the others to give it up
		r.reply(a, "north", protocol.Reply_STATE_REFUSED, busy)
		r.expect(t, a, "running 5% north=queued(busy)")
		now, _ := r.attempt(t, a)
		if !time.Now().Before(start) {
			t.Error("asked again only after the start")
		}
		r.reply(now, "north", protocol.Reply_STATE_ACCEPTED, nil)
		r.expect(t, a, "running 10% north=accepted")

		b := r.create(t, onlyNorth()) // and here there is none
		free = time.Now().Add(20 * time.Second)
		r.reply(b, "north", protocol.Reply_STATE_REFUSED, busy)
		r.expect(t, b, "failed 100% north=refused(busy)")
		if got := r.db.get(b.ID).Stations[0].EarliestStart; got != protocol.FormatTime(free) {
			t.Errorf("earliest start %q, want %q", got, protocol.FormatTime(free))
		}
		// Busy with as many captures as it takes at once: the stretch stays in its history.
		c := r.create(t, onlyNorth())
		r.reply(c, "north", protocol.Reply_STATE_REFUSED, no("busy"))
		r.expect(t, c, "running 5% north=queued(busy)")
	})
}

func TestRetry_NotAfterACancel(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		a := r.create(t, onlyNorth())
		r.reply(a, "north", protocol.Reply_STATE_CAPTURING, nil)
		r.cancel(t, a)
		r.reply(a, "north", protocol.Reply_STATE_FAILED, no("interrupted"))
		r.expect(t, a, "failed 100% north=failed(interrupted)")

		b := r.create(t, onlyNorth())
		r.reply(b, "north", protocol.Reply_STATE_REFUSED, no("busy"))
		r.cancel(t, b) // nobody is asked at the moment, so nobody has to be told
		r.expect(t, b, "cancelled 100% north=cancelled(cancelled)")
		if id := r.cancelOf(b, "north"); id != "" {
			t.Errorf("told by %s to end what it does not do", id)
		}
		count := r.commands.issues()
		rest(5 * time.Minute)
		if n := r.commands.issues(); n != count {
			t.Errorf("%d commands after the cancel", n-count)
		}
	})
}

func TestRetry_SurvivesItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		first := newRig(nil)
		stop := first.run(t)
		a := first.create(t, onlyNorth())
		first.reply(a, "north", protocol.Reply_STATE_FAILED, no("interrupted"))
		stop()
		waiting := first.db.get(a.ID)

		second := newRig(nil)
		second.db.rows = first.db.rows
		stop = second.run(t)
		rest(10 * time.Second)
		if n := second.commands.issues(); n != 1 {
			t.Errorf("%d commands issued after the restart, want that of the second attempt", n)
		}
		second.reply(waiting, "north", protocol.Reply_STATE_DONE, manifest(0))
		second.expect(t, a, "done 100% north=done")
		stop()
	})
}

func TestConductor_WaitsForAStationThatWasHereAMomentAgo(t *testing.T) {
	simulate(t, func(c *acquisition.Config) {
		list := fixture()
		i := slices.IndexFunc(list, func(s protocol.Station) bool { return s.ID == "away" })
		list[i].LastSeen = protocol.FormatTime(time.Now().Add(-time.Minute))
		c.Stations = list
	}, func(t *testing.T, r *rig) {
		req := fiveSeconds
		req.Stations = []string{"away"}
		a := r.create(t, req)
		r.expect(t, a, "running 5% away=sent(offline)")
		rest(20 * time.Second)
		count := r.commands.issues()
		r.StationOnline("away")
		synctest.Wait()
		if n := r.commands.issues(); n != count+1 || !r.commands.isForgotten(commandOf(a, "away")) {
			t.Errorf("%d commands when the station is back, want it told afresh at once", n-count)
		}
		r.reply(a, "away", protocol.Reply_STATE_ACCEPTED, nil)
		r.expect(t, a, "running 10% away=accepted")

		b := r.create(t, req) // and it does not come back
		rest(70 * time.Second)
		r.expect(t, b, "failed 100% away=failed(offline)")
		later := req
		later.StartTime = time.Now().Add(time.Hour).Format(time.RFC3339) // then it has time
		r.expect(t, r.create(t, later), "running 5% away=sent(offline)")
		c := r.create(t, req)
		r.expect(t, c, "failed 100% away=failed(offline)")
	})
}

func TestConductor_OrdersNoMoreThanADayAhead(t *testing.T) {
	simulate(t, nil, func(t *testing.T, r *rig) {
		req := onlyNorth()
		req.StartTime = time.Now().Add(25 * time.Hour).Format(time.RFC3339)
		a := r.create(t, req)
		r.expect(t, a, "queued 0% north=queued")
		rest(time.Hour)
		r.expect(t, a, "queued 0% north=queued")
		rest(time.Hour + time.Minute)
		r.expect(t, a, "running 5% north=sent")
		if n := r.commands.issues(); n != 1 {
			t.Errorf("%d commands, want one", n)
		}
	})
}

// thin is a station on a thin link, and what it says of itself.
type thin struct {
	mu      sync.Mutex // guards station
	station protocol.Station
}

func newThin() *thin { return &thin{station: fixture()[0]} }

func (s *thin) Stations(context.Context) ([]protocol.Station, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []protocol.Station{s.station}, nil
}

// says has the station tell what it holds.
func (s *thin) says(backlog uint64, age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.station.LastSeen = protocol.FormatTime(time.Now())
	s.station.Delivery = &protocol.StationDelivery{Backlog: backlog, BacklogAgeS: age.Seconds()}
}

// A station on a thin link is silent here for longer than any other is given, and is not given up while it says that it
// holds what is owed.
func TestConductor_WaitsForAThinLink(t *testing.T) {
	north := newThin()
	simulate(t, func(c *acquisition.Config) { c.Stations = north }, func(t *testing.T, r *rig) {
		req := onlyNorth()
		req.IQ = true
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(100))
		for range 100 { // over an hour and a half
			rest(time.Minute)
			north.says(80, time.Since(r.began))
		}
		r.expect(t, a, "running 50% north=uploading")
		// What is owed is older than what it still holds: it has lost it.
		for range 25 {
			rest(time.Minute)
			north.says(3, 5*time.Second)
		}
		r.expect(t, a, "failed 100% north=expired(expired)")
	})
}

func TestConductor_GivesUpAThinLinkThatIsGone(t *testing.T) {
	north := newThin()
	simulate(t, func(c *acquisition.Config) { c.Stations = north }, func(t *testing.T, r *rig) {
		req := onlyNorth()
		req.IQ = true
		a := r.create(t, req)
		r.reply(a, "north", protocol.Reply_STATE_DONE, manifest(100))
		north.says(80, time.Second)
		rest(10 * time.Minute)
		r.expect(t, a, "running 50% north=uploading")
		rest(15 * time.Minute)
		r.expect(t, a, "failed 100% north=expired(expired)")
		r.RecordingStored(t.Context(), &protocol.Recording{ID: "rec1", Station: "north", Acquisition: a.ID})
		synctest.Wait()
		if got := r.db.get(a.ID).Stations[0].Recording; got != "rec1" {
			t.Errorf("recording %q, want what came after all", got)
		}
	})
}
