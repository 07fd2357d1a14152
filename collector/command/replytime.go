package command

import (
	"slices"
	"time"
)

const (
	// timesKept is how many reply times of a station are remembered, and for how long.
	timesKept = 16
	timesAge  = time.Hour
	// enoughTimes is how many there must be before the longest is taken for an accident.
	enoughTimes = 8
)

// replyTimes are the latest times that a station took to answer.
type replyTimes []replyTime

// replyTime is how long after a command was first sent its first reply was here.
type replyTime struct {
	took time.Duration
	at   time.Time
	// repeated: the command was sent more than once. Then nobody knows which of them was answered, and a station that was
	// away for a moment looks like a slow one [KarnPartridge87: P. Karn, C. Partridge, Improving Round-Trip Time Estimates
	// in Reliable Transport Protocols, SIGCOMM 1987].
	repeated bool
}

func (r *replyTimes) add(t replyTime) {
	if len(*r) == timesKept {
		*r = slices.Delete(*r, 0, 1)
	}
	*r = append(*r, t)
}

// estimate is a time within which the station can be expected to answer: the longest recent one, but for one that stands
// alone among many. Where every recent command was repeated, the station is slow indeed, and the shortest of these times,
// in which the fewest were lost, tells how slow.
func (r replyTimes) estimate(now time.Time) (time.Duration, bool) {
	var sure, unsure []time.Duration
	for _, t := range r {
		switch {
		case now.Sub(t.at) > timesAge:
		case t.repeated:
			unsure = append(unsure, t.took)
		default:
			sure = append(sure, t.took)
		}
	}
	slices.Sort(sure)
	switch {
	case len(sure) >= enoughTimes:
		return sure[len(sure)-2], true
	case len(sure) > 0:
		return sure[len(sure)-1], true
	case len(unsure) > 1: // one alone may be that of a station that was away
		return slices.Min(unsure), true
	}
	return 0, false
}

// ReplyTime is how long after a command the first reply of a station is here; false when no recent command tells.
func (d *Dispatcher) ReplyTime(station string) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.times[station].estimate(time.Now())
}

// noteReply learns from the first reply to an order. mu must be held.
func (d *Dispatcher) noteReply(o *order, now time.Time) {
	if !o.timed || o.sends == 0 { // another process has told the station
		return
	}
	times := d.times[o.station]
	times.add(replyTime{took: now.Sub(o.first), at: now, repeated: o.sends > 1})
	d.times[o.station] = times
}
