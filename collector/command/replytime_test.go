package command_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/command"
)

// exchange has a station answer a command so long after it was first sent.
func exchange(t *testing.T, d *command.Dispatcher, station string, after time.Duration) {
	t.Helper()
	c := order(time.Hour)
	if err := d.Issue(t.Context(), station, c); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	synctest.Wait()
	d.Observe(t.Context(), reply(station, c.GetId()))
}

func expectTime(t *testing.T, d *command.Dispatcher, station string, want time.Duration) {
	t.Helper()
	got, ok := d.ReplyTime(station)
	if got != want || ok != (want != 0) {
		t.Errorf("reply time of %s: %v, %v, want %v", station, got, ok, want)
	}
}

func TestReplyTime_IsTheLongestOfLately(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, _ *air) {
		expectTime(t, d, "north", 0)
		exchange(t, d, "north", 120*time.Millisecond)
		expectTime(t, d, "north", 120*time.Millisecond)
		exchange(t, d, "north", 300*time.Millisecond)
		exchange(t, d, "north", 150*time.Millisecond)
		expectTime(t, d, "north", 300*time.Millisecond)
		expectTime(t, d, "south", 0)
		for range 5 {
			exchange(t, d, "north", 100*time.Millisecond)
		}
		expectTime(t, d, "north", 150*time.Millisecond) // the 300 ms stand alone among eight
		for range 14 {
			exchange(t, d, "north", 100*time.Millisecond)
		}
		expectTime(t, d, "north", 100*time.Millisecond)
		exchange(t, d, "north", 1900*time.Millisecond)
		exchange(t, d, "north", 1800*time.Millisecond)
		expectTime(t, d, "north", 1800*time.Millisecond)
		time.Sleep(time.Hour + time.Millisecond)
		expectTime(t, d, "north", 0)
	})
}

func TestReplyTime_IsNotThatOfAStationThatWasAway(t *testing.T) {
	simulate(t, func(t *testing.T, d *command.Dispatcher, _ *air) {
		exchange(t, d, "north", 100*time.Millisecond)
		exchange(t, d, "north", 40*time.Second) // it answers a repetition
		expectTime(t, d, "north", 100*time.Millisecond)
		exchange(t, d, "south", 40*time.Second)
		expectTime(t, d, "south", 0)
		exchange(t, d, "south", 3*time.Second) // again it has not answered within 2 s: it is slow
		expectTime(t, d, "south", 3*time.Second)
		exchange(t, d, "south", 900*time.Millisecond)
		expectTime(t, d, "south", 900*time.Millisecond)
	})
}

func TestReplyTime_CountsNoTimeWithoutABroker(t *testing.T) {
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
		d.Observe(t.Context(), reply("north", c.GetId()))
		expectTime(t, d, "north", 0)
	})
}
