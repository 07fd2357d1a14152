package recorder

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// farFuture is how long before its start a capture may be ordered.
const farFuture = 24 * time.Hour

// job is what a capture command comes down to at this station.
type job struct {
	receiver    Receiver
	info        radio.Info
	start       time.Time
	duration    float64 // s
	centerHz    float64
	bandwidthHz float64 // 0: whole passband
	iq          bool
	past        bool // all of it is in the history

	tuning   radio.Tuning           // where the receiver was asked to be, when it is reserved
	reserved *timetable.Reservation // nil: the samples are there, or nobody can tune the receiver

	task *task // what it has to compute; nil: nothing
}

// plan checks the order and chooses the receiver. Its errors are refusals.
func (r *run) plan() (*job, error) {
	if no := r.sensible(r.set.MaxDuration); no != nil {
		return nil, no
	}
	j, err := r.among(r.consider)
	if err != nil {
		return nil, err
	}
	no := r.affords(j)
	if no == nil {
		no = r.carry(j)
	}
	if no != nil {
		r.release(j)
		return nil, no
	}
	return j, nil
}

// affords asks the owner for what the recording would have to upload.
func (r *run) affords(j *job) *refusal {
	if !j.iq || r.set.Afford == nil {
		return nil
	}
	bytesPerSecond, no := j.bytesPerSecond()
	if no != nil {
		return no
	}
	if err := r.set.Afford(int64(math.Min(j.duration*bytesPerSecond, 1<<62))); err != nil {
		return refuse(ReasonQuota, "%v", err)
	}
	return nil
}

// release gives the receiver back, and the time to compute.
func (r *run) release(j *job) {
	if j.reserved != nil {
		j.reserved.Release()
	}
	if j.task != nil {
		r.load.remove(j.task)
	}
}

// carry has the computer take the capture on. One without a start begins later for that, where it need not move its reservation.
func (r *run) carry(j *job) *refusal {
	var earliest time.Time
	for range 3 { // others may come in between
		t := newTask(j)
		t.urgency, t.giveUp = r.order.GetPriority(), func() { r.lose(errTooSlow) }
		later, ok := r.load.admit(t, r.turns)
		if ok {
			j.task = t
			return nil
		}
		earliest = j.start.Add(later)
		if at := r.cmd.GetExpires(); r.order.Start != nil || j.reserved != nil || at != 0 && earliest.UnixNano() > at {
			break
		}
		j.start, j.past = earliest, false
	}
	no := refuse(ReasonBusy, "%d captures are under way, and this computer is too slow for one more before its samples are overwritten: start at %s or later, order fewer at a time, or give the receiver a longer history",
		r.load.count(), stamp(earliest))
	no.earliest = earliest
	return no
}

// sensible checks what an order says by itself.
func (r *run) sensible(longest time.Duration) *refusal {
	o := r.order
	d := o.GetDurationS()
	switch {
	case !(d > 0) || math.IsInf(d, 0):
		return refuse(ReasonBadDuration, "duration_s %g: want more than 0", d)
	case d > longest.Seconds():
		return refuse(ReasonBadDuration, "duration_s %g: this station takes at most %v at once", d, longest)
	case !(o.GetCenterHz() >= 0) || math.IsInf(o.GetCenterHz(), 0):
		return refuse(ReasonBadFrequency, "center_hz %g: want a frequency", o.GetCenterHz())
	case o.BandwidthHz != nil && (!(o.GetBandwidthHz() > 0) || math.IsInf(o.GetBandwidthHz(), 0)):
		return refuse(ReasonBadBandwidth, "bandwidth_hz %g: want more than 0, or leave it out for the whole passband", o.GetBandwidthHz())
	case o.Start != nil && time.Unix(0, o.GetStart()).Sub(r.set.Now()) > farFuture:
		return refuse(ReasonBadStart, "start %s: more than a day ahead: order it later", time.Unix(0, o.GetStart()).UTC().Format(time.RFC3339))
	}
	return nil
}

// among asks every receiver that the order may mean, and takes the best.
func (r *run) among(consider func(Receiver) ([]way, *refusal)) (*job, error) {
	o := r.order
	var all []way
	var why *refusal
	found := false
	for _, rx := range r.set.Receivers {
		if o.GetReceiver() != "" && rx.ID != o.GetReceiver() {
			continue
		}
		found = true
		ways, no := consider(rx)
		all = append(all, ways...)
		why = nearer(why, no)
	}
	switch {
	case found:
		return r.choose(all, why)
	case o.GetReceiver() != "":
		return nil, refuse(ReasonUnknownReceiver, "receiver %q: this station has no such receiver", o.GetReceiver())
	}
	return nil, refuse(ReasonReceiverOffline, "this station has no receiver")
}

// nearer chooses among refusals of several receivers: the one that came nearest to doing it speaks for all.
func nearer(a, b *refusal) *refusal {
	switch {
	case a == nil:
		return b
	case b == nil || rank(a.code) > rank(b.code):
		return a
	case rank(b.code) > rank(a.code) || b.earliest.Before(a.earliest):
		return b
	}
	return a
}

func rank(code string) int {
	switch code {
	case ReasonOutOfPassband:
		return 0
	case ReasonNotLive:
		return 1
	case ReasonReceiverOffline:
		return 2
	case ReasonHistoryExceeded:
		return 3
	case ReasonBusy, ReasonTooSoon:
		return 5
	}
	return 4
}

// consider finds the ways in which one receiver can do it. It may give ways and say beside them why others are none.
func (r *run) consider(rx Receiver) ([]way, *refusal) {
	o := r.order
	info, connected := rx.Info()
	span := rx.History.Span()
	j := &job{
		receiver: rx, info: info, duration: o.GetDurationS(), iq: o.GetIq(),
		centerHz: o.GetCenterHz(), bandwidthHz: o.GetBandwidthHz(), start: span.To,
	}
	if o.Start != nil {
		j.start = time.Unix(0, o.GetStart()).UTC()
	}
	j.past = span.Blocks > 0 && !j.end().After(span.To)
	if span.Blocks == 0 && (!connected || o.Start == nil) || !connected && !j.past {
		return nil, refuse(ReasonReceiverOffline, "receiver %q is not connected: "+protocol.OrderAgain+" when it is", rx.ID)
	}
	if !info.Timeline {
		return nil, refuse(ReasonNotLive, "receiver %q plays a recording on its own times: give its source an anchor to use it as a live one", rx.ID)
	}
	if tuning, ok := rx.History.TuningAt(j.start); ok {
		j.info.Tuning = tuning
		j.info.Format = span.Format
	}
	reservable := !j.past && info.Tunable && rx.Table != nil
	if no := r.admits(j); no != nil && !reservable {
		return nil, no
	}
	if exceeded, ok := errors.AsType[*history.ExceededError](rx.History.Reach(j.start, j.length())); ok {
		return nil, historyExceeded(exceeded)
	}
	if reservable {
		return r.places(j)
	}
	if no := j.fits(r.set.MaxBytes); no != nil {
		return nil, no
	}
	return []way{{job: j}}, nil
}

// end is just after the last sample.
func (j *job) end() time.Time { return j.start.Add(j.length()) }

// length is the duration, as far as one can be told.
func (j *job) length() time.Duration { return time.Duration(math.Min(j.duration*1e9, math.MaxInt64/4)) }

// admits checks that the band lies in the receiver's passband, and that the owner permits what would be recorded.
func (r *run) admits(j *job) *refusal {
	t := j.info.Tuning
	low, high := t.CenterHz-t.SampleRateHz/2, t.CenterHz+t.SampleRateHz/2
	if math.Abs(j.centerHz-t.CenterHz)+j.bandwidthHz/2 > t.SampleRateHz/2*(1+1e-9) {
		return r.beside(j, configs.Hertz(math.Ceil(low)), configs.Hertz(math.Floor(high)))
	}
	if j.bandwidthHz > 0 {
		n, err := j.channel(t.SampleRateHz, t.CenterHz).Decimation()
		if err != nil {
			return refuse(ReasonBadBandwidth, "bandwidth_hz: %v", err)
		}
		if n > 1 { // else nothing is cut off; and a channel's samples show more than its bandwidth
			half := t.SampleRateHz / float64(n) / 2
			low, high = max(low, j.centerHz-half), min(high, j.centerHz+half)
		}
	}
	return r.permits(j, low, high)
}

// permits asks the owner.
func (r *run) permits(j *job, lowHz, highHz float64) *refusal {
	if r.set.Permit == nil {
		return nil
	}
	if code, message := r.set.Permit(Reveals{lowHz, highHz, j.start, j.end()}); code != "" {
		return refuse(code, "%s", message)
	}
	return nil
}

// beside says that a receiver hears another band.
func (r *run) beside(j *job, low, high configs.Hertz) *refusal {
	switch {
	case j.past:
		return refuse(ReasonOutOfPassband, "%s: receiver %q heard %s to %s then: order a frequency inside", j.band(), j.receiver.ID, low, high)
	case j.info.Tunable && !r.set.MayTune:
		return refuse(ReasonOutOfPassband, "%s: receiver %q hears %s to %s now, and its owner lets no order tune it: order a frequency inside, or have the owner set control.allow: [capture, tune]",
			j.band(), j.receiver.ID, low, high)
	}
	return refuse(ReasonOutOfPassband, "%s: receiver %q hears %s to %s now: order a frequency inside", j.band(), j.receiver.ID, low, high)
}

// band is what was asked for, in words.
func (j *job) band() string {
	if j.bandwidthHz == 0 {
		return configs.Hertz(j.centerHz).String()
	}
	return fmt.Sprintf("%s with a bandwidth of %s", configs.Hertz(j.centerHz), configs.Hertz(j.bandwidthHz))
}

// fits checks the size of the result.
func (j *job) fits(limit uint64) *refusal {
	bytesPerSecond, no := j.bytesPerSecond()
	if no != nil {
		return no
	}
	if bytes := j.duration * bytesPerSecond; j.iq && bytes > float64(limit) {
		return refuse(ReasonTooLarge, "duration_s %g: %s of IQ are more than the %s allowed: at most %.3g s fit",
			j.duration, configs.Bytes(math.Min(bytes, 1<<62)), configs.Bytes(limit), float64(limit)/bytesPerSecond)
	}
	return nil
}

// bytesPerSecond is how much IQ a second of the capture makes.
func (j *job) bytesPerSecond() (float64, *refusal) {
	rate, width := j.info.Tuning.SampleRateHz, j.info.Format.BytesPerSample()
	if j.bandwidthHz > 0 {
		n, err := j.channel(rate, 0).Decimation()
		if errors.Is(err, dsp.ErrBandwidth) {
			return 0, refuse(ReasonBadBandwidth, "bandwidth_hz: %v", err)
		}
		rate, width = rate/float64(n), dsp.CS16.BytesPerSample()
	}
	return rate * float64(width), nil
}

// channel is what the channeliser has to do.
func (j *job) channel(rateHz, receiverCenterHz float64) dsp.Channel {
	ch := dsp.Channel{
		SampleRateHz: rateHz,
		ShiftHz:      j.centerHz - receiverCenterHz,
		BandwidthHz:  j.bandwidthHz,
		RejectionDB:  100,
	}
	if f := j.info.Format; f == dsp.CU8 || f == dsp.CS8 {
		ch.RejectionDB = 80
	}
	return ch
}
