package recorder

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
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
}

// plan checks the order and chooses the receiver. Its errors are refusals.
func (r *run) plan() (*job, error) {
	o := r.order
	d := o.GetDurationS()
	switch {
	case !(d > 0) || math.IsInf(d, 0):
		return nil, refuse(ReasonBadDuration, "duration_s %g: want more than 0", d)
	case r.set.MaxDuration > 0 && d > r.set.MaxDuration.Seconds():
		return nil, refuse(ReasonBadDuration, "duration_s %g: this station records at most %v at once", d, r.set.MaxDuration)
	case !(o.GetCenterHz() >= 0) || math.IsInf(o.GetCenterHz(), 0):
		return nil, refuse(ReasonBadFrequency, "center_hz %g: want a frequency", o.GetCenterHz())
	case o.BandwidthHz != nil && (!(o.GetBandwidthHz() > 0) || math.IsInf(o.GetBandwidthHz(), 0)):
		return nil, refuse(ReasonBadBandwidth, "bandwidth_hz %g: want more than 0, or leave it out for the whole passband", o.GetBandwidthHz())
	case o.Start != nil && time.Unix(0, o.GetStart()).Sub(r.set.Now()) > farFuture:
		return nil, refuse(ReasonBadStart, "start %s: more than a day ahead: order it later", time.Unix(0, o.GetStart()).UTC().Format(time.RFC3339))
	}

	var best *job
	var why *refusal
	found := false
	for _, rx := range r.set.Receivers {
		if o.GetReceiver() != "" && rx.ID != o.GetReceiver() {
			continue
		}
		found = true
		j, no := r.consider(rx)
		switch {
		case no != nil && (why == nil || rank(no.code) > rank(why.code)):
			why = no
		case no == nil && (best == nil || j.info.Tuning.SampleRateHz < best.info.Tuning.SampleRateHz):
			best = j // the narrowest that covers it
		}
	}
	switch {
	case best != nil:
		return best, nil
	case found:
		return nil, why
	case o.GetReceiver() != "":
		return nil, refuse(ReasonUnknownReceiver, "receiver %q: this station has no such receiver", o.GetReceiver())
	}
	return nil, refuse(ReasonReceiverOffline, "this station has no receiver")
}

// rank orders refusals of several receivers: the one that came nearest to doing it speaks for all.
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
	}
	return 4
}

// consider checks whether one receiver can do it.
func (r *run) consider(rx Receiver) (*job, *refusal) {
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
	past := span.Blocks > 0 && !j.end().After(span.To)
	if span.Blocks == 0 && (!connected || o.Start == nil) || !connected && !past {
		return nil, refuse(ReasonReceiverOffline, "receiver %q is not connected: order it again when it is", rx.ID)
	}
	if !info.Timeline {
		return nil, refuse(ReasonNotLive, "receiver %q plays a recording on its own times: give its source an anchor to use it as a live one", rx.ID)
	}
	if tuning, ok := rx.History.TuningAt(j.start); ok {
		j.info.Tuning = tuning
		j.info.Format = span.Format
	}
	if no := r.admits(j); no != nil {
		return nil, no
	}
	if span.Blocks > 0 && j.start.Before(span.From) {
		if j.start.Add(radio.SamplesDuration(1, j.info.Tuning.SampleRateHz)).Before(span.From) {
			return nil, historyExceeded(&history.ExceededError{Asked: j.start, From: span.From})
		}
	}
	return j, j.fits(r.set.MaxBytes)
}

// end is just after the last sample.
func (j *job) end() time.Time {
	return j.start.Add(time.Duration(math.Min(j.duration*1e9, math.MaxInt64/4)))
}

// admits checks that the band lies in the receiver's passband, and that the owner permits what would be recorded.
func (r *run) admits(j *job) *refusal {
	t := j.info.Tuning
	low, high := t.CenterHz-t.SampleRateHz/2, t.CenterHz+t.SampleRateHz/2
	if math.Abs(j.centerHz-t.CenterHz)+j.bandwidthHz/2 > t.SampleRateHz/2*(1+1e-9) {
		return refuse(ReasonOutOfPassband, "%s: receiver %q hears %s to %s now: order a frequency inside",
			j.band(), j.receiver.ID, configs.Hertz(math.Ceil(low)), configs.Hertz(math.Floor(high)))
	}
	if r.set.Permit == nil {
		return nil
	}
	if j.bandwidthHz > 0 {
		low, high = j.centerHz-j.bandwidthHz/2, j.centerHz+j.bandwidthHz/2
	}
	if code, message := r.set.Permit(low, high); code != "" {
		return refuse(code, "%s", message)
	}
	return nil
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
	rate, width := j.info.Tuning.SampleRateHz, j.info.Format.BytesPerSample()
	if j.bandwidthHz > 0 {
		n, err := j.channel(rate, 0).Decimation()
		if errors.Is(err, dsp.ErrBandwidth) {
			return refuse(ReasonBadBandwidth, "bandwidth_hz: %v", err)
		}
		rate, width = rate/float64(n), dsp.CS16.BytesPerSample()
	}
	if bytes := j.duration * rate * float64(width); j.iq && bytes > float64(limit) {
		return refuse(ReasonTooLarge, "duration_s %g: %s of IQ are more than the %s allowed: at most %.3g s fit",
			j.duration, configs.Bytes(math.Min(bytes, 1<<62)), configs.Bytes(limit), float64(limit)/(rate*float64(width)))
	}
	return nil
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
