package survey

import (
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// What a receiver missed while it was not connected is counted by its times, unless the clock they are read from was set.
func TestJoint_AStepIsNoLoss(t *testing.T) {
	const rate, samples = 1000, 100 // 100 ms
	began := time.Now()
	at := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		quality protocol.TimeQuality
		byTimes time.Duration // between the blocks' beginnings
		want    uint64
	}{
		{protocol.TimeQuality_TIME_QUALITY_SYSTEM, 5 * time.Second, 4900},
		{protocol.TimeQuality_TIME_QUALITY_SYSTEM, 5*time.Second + 300*time.Millisecond, 5200}, // delivered late the first time
		{protocol.TimeQuality_TIME_QUALITY_SYSTEM, 5*time.Second + time.Hour, 4900},
		{protocol.TimeQuality_TIME_QUALITY_NTP, 5*time.Second - time.Hour, 4900},
		{protocol.TimeQuality_TIME_QUALITY_UNSET, 5*time.Second + 10*365*24*time.Hour, 4900},
		{protocol.TimeQuality_TIME_QUALITY_GNSS, 7 * time.Second, 6900},
		{protocol.TimeQuality_TIME_QUALITY_GNSS, -time.Second, 0},
	} {
		var j joint
		b := radio.Block{
			Format: dsp.CU8, Raw: make([]byte, 2*samples), Time: at, TimeQuality: c.quality, Tuning: radio.Tuning{SampleRateHz: rate},
		}
		j.reopen()
		if lost := j.block(&b, true, began); lost != 0 {
			t.Errorf("%d samples lost before the first", lost)
		}
		b.Index, b.Segment, b.Time = 0, 0, at.Add(c.byTimes)
		j.reopen()
		if lost := j.block(&b, true, began.Add(5*time.Second)); lost != c.want || b.LostBefore != c.want || b.Index != samples+c.want || b.Segment != 1 {
			t.Errorf("%v, %v on: %d lost, %+v; want %d", c.quality, c.byTimes, lost, b.Index, c.want)
		}
		b.Index, b.Segment, b.Time = 0, 0, at.Add(c.byTimes+time.Hour)
		j.begin()
		j.reopen()
		if lost := j.block(&b, true, began.Add(time.Hour)); lost != 0 || b.Index != 2*samples+c.want || b.Segment != 2 {
			t.Errorf("%d samples lost, at %d, segment %d, after an hour in which nobody wanted them", lost, b.Index, b.Segment)
		}
	}
}
