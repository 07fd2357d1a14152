package recorder

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// way is how a receiver could do what was ordered.
type way struct {
	*job
	cost int           // how much is disturbed by it: see timetable.Place; costRetune
	wait time.Duration // how long an order for now waits until others are done, in whole seconds
}

// costRetune is the cost of taking a receiver where it has no other business.
const costRetune = 3

// afterEnd is how much longer than its samples a capture holds the receiver: they are counted by the fitted rate.
const afterEnd = time.Millisecond

// places finds the tunings at which a receiver could do the job: those it is reserved at already, those of its plan and, where
// the owner allows it, one chosen for the job. It may give some and say beside them why others are none.
func (r *run) places(j *job) ([]way, *refusal) {
	var ways []way
	var why *refusal
	consider := func(t radio.Tuning, cost int) {
		w := *j
		w.tuning = t
		w.info.Tuning = t
		if now := j.receiver.History.Span().Tuning; now.Near(t) {
			w.info.Tuning = now // with its rate as measured
		}
		no := r.admits(&w)
		if no == nil {
			no = w.fits(r.set.MaxBytes)
		}
		if no != nil {
			why = nearer(why, no)
			return
		}
		ways = append(ways, way{job: &w, cost: cost, wait: r.queue(&w)})
	}
	places := j.receiver.Table.Places(j.start, j.end())
	if len(places) == 0 { // no plan is known yet
		return nil, refuse(ReasonReceiverOffline, "receiver %q is being connected: "+protocol.OrderAgain+" in a moment", j.receiver.ID)
	}
	for _, p := range places {
		consider(p.Tuning, p.Cost)
	}
	if !r.set.MayTune || len(ways) > 0 { // what keeps it from those keeps it from others, too
		return ways, why
	}
	info, _ := j.receiver.Info()
	t := j.retune(info)
	if !info.Range.Contains(t) {
		return ways, nearer(refuse(ReasonOutOfPassband, "%s: receiver %q can be tuned to %s to %s, at up to %s of samples: order what lies inside",
			j.band(), j.receiver.ID, configs.Hertz(info.Range.LowHz), configs.Hertz(info.Range.HighHz), configs.Hertz(info.Range.HighRateHz)), why)
	}
	if no := r.permits(j, t.CenterHz, t.CenterHz); no != nil {
		return ways, nearer(no, why)
	}
	consider(t, costRetune)
	return ways, why
}

// retune is a tuning for the job alone, at the rate that the receiver was opened with or, for a wider band, a quarter above
// that. Where the receiver has a spike at its centre, a band that is narrow enough goes halfway to the edge.
func (j *job) retune(info radio.Info) radio.Tuning {
	t := radio.Tuning{CenterHz: j.centerHz, SampleRateHz: max(info.Tuning.SampleRateHz, 1.25*j.bandwidthHz), GainDB: math.NaN()}
	if info.MaskDC && j.bandwidthHz > 0 && j.bandwidthHz < 0.3*t.SampleRateHz {
		t.CenterHz -= t.SampleRateHz / 4
	}
	return t
}

// queue is how long an order for now waits until others are done with the receiver, in whole seconds: less is no reason to
// disturb another one.
func (r *run) queue(j *job) time.Duration {
	if r.order.Start != nil {
		return 0
	}
	earliest := j.receiver.Table.Earliest(timetable.Request{Tuning: j.tuning, From: j.start, To: j.end()})
	return earliest.Sub(j.start).Truncate(time.Second)
}

// choose takes, without a start, the way that is free first; of those the one that disturbs least, and then the receiver with
// the narrowest passband. Where others have all of them at that time, less urgent ones give way.
func (r *run) choose(ways []way, why *refusal) (*job, error) {
	slices.SortStableFunc(ways, func(a, b way) int {
		return cmp.Or(cmp.Compare(a.wait, b.wait), cmp.Compare(a.cost, b.cost), cmp.Compare(a.info.Tuning.SampleRateHz, b.info.Tuning.SampleRateHz))
	})
	for _, displace := range []bool{false, true} {
		for _, w := range ways {
			no := r.reserve(w.job, displace)
			if no == nil {
				return w.job, nil
			}
			why = nearer(why, no)
		}
	}
	return nil, why
}

// reserve takes the receiver for the job. One without a start begins as soon as the receiver is free and there.
func (r *run) reserve(j *job, displace bool) *refusal {
	if j.tuning.SampleRateHz == 0 { // the samples are there, or nobody can tune the receiver
		return nil
	}
	q := timetable.Request{
		Order: r.cmd.GetId(), Tuning: j.tuning, Priority: r.order.GetPriority(),
		Displaced: func(e *timetable.BusyError) { r.lose(busy(j, e)) },
	}
	if r.order.Start == nil {
		q.From, q.To = j.start, j.end()
		j.start = j.receiver.Table.Earliest(q)
	}
	var soon *timetable.SoonError
	var taken *timetable.BusyError
	for range 3 { // samples go on meanwhile, and so may others
		if at := r.cmd.GetExpires(); r.order.Start == nil && at != 0 && j.start.UnixNano() > at {
			no := refuse(ReasonBusy, "receiver %q is taken until %s, after this order expires: order it for then or later", j.receiver.ID, stamp(j.start))
			no.earliest = j.start
			return no
		}
		q.From, q.To = j.start, j.end().Add(j.reach()+afterEnd)
		reserved, err := j.receiver.Table.Reserve(q, displace)
		switch {
		case err == nil:
			j.reserved = reserved
			return nil
		case r.order.Start != nil:
		case errors.As(err, &soon):
			j.start = soon.Earliest
			continue
		case errors.As(err, &taken):
			j.start = taken.Earliest
			continue
		}
		if errors.As(err, &taken) {
			return busy(j, taken)
		}
		if errors.As(err, &soon) {
			no := refuse(ReasonTooSoon, "start %s: receiver %q has to be tuned for it, which it can be at %s: start then or later",
				stamp(j.start), j.receiver.ID, stamp(soon.Earliest))
			no.earliest = soon.Earliest
			return no
		}
		return refuse(ReasonInternal, "%v", err)
	}
	return refuse(ReasonBusy, "receiver %q is taken by one order after the other: "+protocol.OrderAgain, j.receiver.ID)
}

// busy says that another order has the receiver.
func busy(j *job, e *timetable.BusyError) *refusal {
	no := refuse(ReasonBusy, "another order has receiver %q at %s until %s: start at %s or later",
		j.receiver.ID, configs.Hertz(e.Holder.Tuning.CenterHz), stamp(e.Holder.To), stamp(e.Earliest))
	no.earliest = e.Earliest
	return no
}

// reach is how long after its end a capture needs samples.
func (j *job) reach() time.Duration {
	if j.bandwidthHz == 0 {
		return 0
	}
	chz, err := dsp.NewChannelizer(j.channel(j.info.Tuning.SampleRateHz, j.info.Tuning.CenterHz))
	if err != nil {
		return 0 // it is refused when the capture begins
	}
	return radio.SamplesDuration(float64(chz.Reach()), j.info.Tuning.SampleRateHz)
}

// stamp is a time that is not before t, to the millisecond.
func stamp(t time.Time) string {
	return t.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond).Format(time.RFC3339Nano)
}
