package recorder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// asCapture is what a Tune shares with a capture: a receiver, a frequency and a time, as soon as possible.
func asCapture(o *protocol.Tune, longest time.Duration) *protocol.Capture {
	c := &protocol.Capture{Receiver: o.Receiver, CenterHz: o.CenterHz, DurationS: o.DurationS}
	if c.DurationS == nil {
		c.DurationS = proto.Float64(longest.Seconds())
	}
	return c
}

// planTune checks an order to tune and chooses the receiver. Its errors are refusals.
func (r *run) planTune() (*job, error) {
	if no := r.sensible(r.set.LongestTune); no != nil {
		return nil, no
	}
	return r.among(func(rx Receiver) ([]way, *refusal) {
		j, no := r.considerTune(rx)
		if no != nil {
			return nil, no
		}
		return []way{{job: j, wait: r.queue(j)}}, nil
	})
}

// considerTune checks whether a receiver can be at the tuning. What it hears there can be recorded by others, so the owner is
// asked for all of it.
func (r *run) considerTune(rx Receiver) (*job, *refusal) {
	info, connected := rx.Info()
	span := rx.History.Span()
	switch {
	case !connected || span.Blocks == 0:
		return nil, refuse(ReasonReceiverOffline, "receiver %q is not connected: "+protocol.OrderAgain+" when it is", rx.ID)
	case !info.Tunable || rx.Table == nil:
		return nil, refuse(ReasonNotTunable, "receiver %q has one fixed tuning: order another receiver", rx.ID)
	case !info.Timeline:
		return nil, refuse(ReasonNotLive, "receiver %q plays on times of its own: order another receiver", rx.ID)
	}
	t := radio.Tuning{CenterHz: r.order.GetCenterHz(), SampleRateHz: info.Tuning.SampleRateHz, GainDB: math.NaN()}
	if hz := r.cmd.GetTune().GetSampleRateHz(); hz != 0 {
		t.SampleRateHz = hz
	}
	if rg := info.Range; !rg.Contains(t) {
		return nil, refuse(ReasonOutOfPassband, "center_hz %s, sample_rate_hz %s: receiver %q can be tuned to %s to %s at %s to %s of samples: order what lies inside",
			configs.Hertz(t.CenterHz), configs.Hertz(t.SampleRateHz), rx.ID,
			configs.Hertz(rg.LowHz), configs.Hertz(rg.HighHz), configs.Hertz(rg.LowRateHz), configs.Hertz(rg.HighRateHz))
	}
	info.Tuning = t
	j := &job{receiver: rx, info: info, start: span.To, duration: r.order.GetDurationS(), centerHz: t.CenterHz, tuning: t}
	if no := r.hears(j, t); no != nil {
		return nil, no
	}
	return j, nil
}

// hears asks the owner for all that the receiver hears at a tuning.
func (r *run) hears(j *job, t radio.Tuning) *refusal {
	return r.permits(j, t.CenterHz-t.SampleRateHz/2, t.CenterHz+t.SampleRateHz/2)
}

// errOver: an order to tune had its time, though samples of its end are still to come: the clock that their times are read from
// was set back. Nobody has a receiver for longer for that.
var errOver = errors.New("the time is over")

// hold waits until the receiver is there, and then until the time is over.
func (r *run) hold(ctx context.Context) (*protocol.Reply, error) {
	reader, err := r.seek(ctx, r.job.start)
	if err != nil {
		return nil, r.silence(err)
	}
	next, stop := r.watch(ctx, reader)
	defer stop()
	var b radio.Block
	if err := r.settled(reader, &b, next); err != nil {
		return nil, r.silence(err)
	}
	if no := r.hears(r.job, b.Tuning); no != nil { // it may have had to wait for others, into other hours
		return nil, no
	}
	where := fmt.Sprintf("receiver %q is at %s, %s of samples, until %s", r.job.receiver.ID,
		configs.Hertz(b.Tuning.CenterHz), configs.Hertz(math.Round(b.Tuning.SampleRateHz)), stamp(r.job.end()))
	if err := r.progress(ctx, protocol.Reply_STATE_CAPTURING, 0, where); err != nil {
		return nil, err
	}
	waiting, over := context.WithTimeoutCause(ctx, r.job.end().Sub(b.Time)+r.set.Patience, errOver)
	defer over()
	if _, err := r.seek(waiting, r.job.end()); err != nil && !errors.Is(err, errOver) {
		return nil, r.silence(err)
	}
	done := r.reply(protocol.Reply_STATE_DONE)
	done.Progress = proto.Float64(1)
	done.Message = proto.String("the receiver goes back to its plan")
	return done, nil
}
