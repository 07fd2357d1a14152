// Package recorder cuts a stretch of IQ out of a receiver's history and hands it over as chunks, with a manifest that
// proves it whole.
//
// A capture is exact in time: its first sample is the first whose time is not before the start, and it has
// round(duration × rate) samples by the sample count, lost ones included; lost ones are named in the manifest and never
// filled. Without a bandwidth it is the receiver's whole passband, byte for byte as it was delivered. With one, it is cut
// out with linear phase as 16-bit samples, each centred exactly on one of the receiver's samples. Captures are streamed: one longer than
// the history, or than memory, is as good as a short one.
//
// A capture of what is still to come reserves its receiver, so that this stays where it is meanwhile, or is there in time. It
// goes where its plan has a step that covers the band, and where MayTune lets it, to a tuning for the capture alone. Orders of
// one tuning share the receiver. Of two tunings the order that came first has it, unless the later one is more urgent and the first
// has not begun: the other is refused, also after it was accepted, and told from when on the receiver could do it. So is one
// whose start is too near for a retune. Should a retune that was promised come late all the same, or the receiver be lost
// meanwhile, the capture holds what there is: samples that are still settling, or of another tuning, count as lost.
//
// Many captures may run at once. As many compute at a time as there are processors, those first whose samples would be overwritten
// first. An order that, by what samples cost of late, could not be done before its own or those of accepted ones are gone, is
// refused at once; and where the computer becomes slower than it was, the ones accepted last are given up. So the others are
// whole also where more are ordered than can be done.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/timetable"
	"github.com/fulgidus/heimdall/protocol"
)

// ErrCancelled is the cause to cancel a Capture's context with when its command is cancelled. Any other end of the context
// counts as an interruption.
var ErrCancelled = errors.New("cancelled by command")

// ErrPaused is that of a station whose owner has paused it.
var ErrPaused = errors.New("the owner of this station has paused it")

// The reason codes of replies.
const (
	ReasonOutOfPassband   = "out_of_passband"
	ReasonNotLive         = "not_live"
	ReasonHistoryExceeded = "history_exceeded"
	ReasonBadDuration     = "bad_duration"
	ReasonBadStart        = "bad_start"
	ReasonBadFrequency    = "bad_frequency"
	ReasonBadBandwidth    = "bad_bandwidth"
	ReasonTooLarge        = "too_large"
	ReasonUnknownReceiver = "unknown_receiver"
	ReasonReceiverOffline = "receiver_offline"
	ReasonRetuned         = "retuned"
	ReasonOverwritten     = "overwritten"
	ReasonNoSamples       = "no_samples"
	ReasonClockUncertain  = "clock_uncertain"
	ReasonNotTunable      = "not_tunable"
	ReasonBusy            = "busy"     // another order has the receiver elsewhere, or others have the processors
	ReasonTooSoon         = "too_soon" // the receiver cannot be tuned in time
	ReasonInterrupted     = "interrupted"
	ReasonPaused          = "paused"
	ReasonQuota           = "quota" // the station may not send as much
	ReasonInternal        = "internal"
)

// errTooSlow is the cause that ends a capture whose samples, or those of others, would be overwritten before they are read.
var errTooSlow = errors.New("this computer is too slow for as many captures")

// Receiver is one receiver that captures can be cut from.
type Receiver struct {
	ID      string
	History *history.Ring
	// Info describes the receiver as last connected, and says whether it is connected now.
	Info func() (radio.Info, bool)
	// Table is where the receiver is reserved; nil: what it hears is not up to orders.
	Table *timetable.Table
}

// Sink takes records over. It adds the station and may keep the record.
type Sink interface {
	// Put returns when the record, and every record queued before it, is on disk.
	Put(ctx context.Context, r *protocol.Record) error
	// Queue may return earlier; the record is on disk no later than one that is Put after it.
	Queue(ctx context.Context, r *protocol.Record) error
}

// Meter measures one stretch of samples. Blocks are not kept.
type Meter interface {
	// Expect says, before the first Write, how long the stretch will be.
	Expect(length time.Duration) error
	// Channel says, before the first Write, that what is written was cut out with this bandwidth. What it was cut out of
	// goes to Passband: only there may the noise be seen.
	Channel(bandwidthHz float64) error
	Passband(b *radio.Block)
	Write(b *radio.Block)
	Measurement() *protocol.Measurement
}

// Settings of a Recorder.
type Settings struct {
	Receivers []Receiver
	Sink      Sink
	// NewMeter makes the Meter for one capture; nil leaves captures without a measurement.
	NewMeter func(receiver string, info radio.Info) (Meter, error)

	// Permit is the owner's word on what would be recorded, asked when the order is looked at and again when the recording
	// begins, of what it then holds. An empty code permits; else the order is refused with it and the message. nil permits all.
	Permit func(Reveals) (code, message string)

	// Afford is the owner's word on so many bytes of IQ; its error says why not. nil affords all.
	Afford func(bytes int64) error

	// MayTune lets orders take a receiver where its plan never is. Holding it at a step of its plan, or taking it to another,
	// needs no more than the word to record.
	MayTune bool

	MaxDuration time.Duration // of a capture; 0: a day
	LongestTune time.Duration // how long an order may hold a receiver without a capture; 0: an hour
	MaxBytes    uint64        // of one capture's samples; 0: 256 MiB
	// Patience is how long a capture waits for samples that are due; 0: 10 s.
	Patience time.Duration

	Recorder string // program and version, for the manifest
	Now      func() time.Time
	Log      *slog.Logger
}

// Reveals is all that a recording shows of a time and a band. Without a bandwidth in the order the band is all that the receiver
// hears, with one all that the recording's rate shows. The time may be a past one.
type Reveals struct {
	LowHz, HighHz float64
	From, To      time.Time
}

// Recorder executes captures, and orders to tune. Any number may run at once.
type Recorder struct {
	set     Settings
	cutting atomic.Int32 // captures that read samples now
	turns   *turns
	load    *load
}

// New checks the settings.
func New(set Settings) (*Recorder, error) {
	if set.Sink == nil || set.Now == nil {
		return nil, errors.New("recorder: a sink and a clock are needed")
	}
	if set.MaxBytes == 0 {
		set.MaxBytes = 256 << 20
	}
	if set.MaxDuration <= 0 {
		set.MaxDuration = 24 * time.Hour
	}
	if set.LongestTune <= 0 {
		set.LongestTune = time.Hour
	}
	if set.Patience <= 0 {
		set.Patience = 10 * time.Second
	}
	if set.Log == nil {
		set.Log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{set: set, turns: newTurns(), load: newLoad()}, nil
}

// refusal is an order that is not carried out, or not to its end, and why: a code for machines, a sentence for people.
type refusal struct {
	code, message string
	earliest      time.Time // from when on the history would do; zero: does not help
}

func (e *refusal) Error() string { return e.message }

func refuse(code, format string, args ...any) *refusal {
	return &refusal{code: code, message: fmt.Sprintf(format, args...)}
}

// Capture executes a capture command and puts its replies into the sink: accepted, capturing, uploading, done with the
// manifest; or refused, failed, expired, cancelled with the reason. It returns when the last reply is on disk. The error
// is the sink's: then the order has no last reply.
func (r *Recorder) Capture(ctx context.Context, cmd *protocol.Command) error {
	run := &run{Recorder: r, cmd: cmd, order: cmd.GetCapture()}
	return run.carryOut(ctx, run.plan, run.record)
}

// Tune executes a tune command: it holds a receiver at a tuning for a while, and puts its replies into the sink: accepted;
// capturing when the receiver is there, with what it applied in the message; done after the time; or refused, failed, expired,
// cancelled with the reason. Its error is that of Capture.
func (r *Recorder) Tune(ctx context.Context, cmd *protocol.Command) error {
	run := &run{Recorder: r, cmd: cmd, order: asCapture(cmd.GetTune(), r.set.LongestTune)}
	return run.carryOut(ctx, run.planTune, run.hold)
}

// run is one order under way.
type run struct {
	*Recorder
	cmd   *protocol.Command
	order *protocol.Capture
	job   *job                    // nil until accepted
	work  work                    // its turns to compute
	peers int32                   // captures that read samples at once, this one too
	lose  context.CancelCauseFunc // ends what is under way, because a more urgent order took the receiver, or there is too much to compute
}

// carryOut does the work and puts the last reply into the sink.
func (r *run) carryOut(ctx context.Context, plan func() (*job, error), work func(context.Context) (*protocol.Reply, error)) error {
	last := r.execute(ctx, plan, work)
	ctx, stop := outlast(ctx)
	defer stop()
	if err := r.set.Sink.Put(ctx, r.wrap(last)); err != nil {
		return fmt.Errorf("last reply to command %s: %w", r.cmd.GetId(), err)
	}
	r.set.Log.InfoContext(ctx, "order ended", "command", r.cmd.GetId(), "state", last.GetState().String(), "reason", last.GetReasonCode())
	return nil
}

// lastWord is how long the last reply may still take when the order was cancelled or the agent stops.
const lastWord = 5 * time.Second

// outlast gives a context that ends lastWord after another: what is being stored when that one ends is not taken for lost.
func outlast(ctx context.Context) (lasting context.Context, stop func()) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ending := time.AfterFunc(math.MaxInt64, cancel)
	unwatch := context.AfterFunc(ctx, func() { ending.Reset(lastWord) })
	return lasting, func() {
		unwatch()
		ending.Stop()
		cancel()
	}
}

// execute plans, reserves and does the work, and returns the last reply.
func (r *run) execute(ctx context.Context, plan func() (*job, error), work func(context.Context) (*protocol.Reply, error)) *protocol.Reply {
	if at := r.cmd.GetExpires(); at != 0 && r.set.Now().UnixNano() > at {
		reply := r.reply(protocol.Reply_STATE_EXPIRED)
		reply.Message = proto.String("the command arrived after its expiry: check the clocks, or give it more time")
		return reply
	}
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	r.lose = lose
	job, err := plan()
	if err != nil {
		return r.ending(ctx, protocol.Reply_STATE_REFUSED, err)
	}
	defer r.release(job)
	r.job = job
	accepted := r.reply(protocol.Reply_STATE_ACCEPTED)
	accepted.EarliestStart = proto.Int64(job.start.UnixNano())
	if err := r.set.Sink.Put(ctx, r.wrap(accepted)); err != nil {
		return r.ending(ctx, protocol.Reply_STATE_FAILED, err)
	}
	done, err := work(held)
	if err != nil {
		return r.ending(held, protocol.Reply_STATE_FAILED, err)
	}
	return done
}

// record cuts the capture and gives the reply with its manifest.
func (r *run) record(ctx context.Context) (*protocol.Reply, error) {
	manifest, short, err := r.cut(ctx)
	if err != nil {
		return nil, err
	}
	done := r.reply(protocol.Reply_STATE_DONE)
	done.Progress = proto.Float64(1)
	done.Capture = manifest
	if short != nil {
		done.ReasonCode, done.Message = proto.String(short.code), proto.String(short.message)
	}
	return done, nil
}

// ending is the reply to an order that was not carried out.
func (r *run) ending(ctx context.Context, state protocol.Reply_State, err error) *protocol.Reply {
	var exceeded *history.ExceededError
	var why *refusal
	switch {
	case errors.Is(context.Cause(ctx), ErrCancelled):
		reply := r.reply(protocol.Reply_STATE_CANCELLED)
		reply.Message = proto.String(ErrCancelled.Error())
		return reply
	case errors.Is(context.Cause(ctx), ErrPaused):
		why = refuse(ReasonPaused, "%v before the order was carried out", ErrPaused)
	case errors.Is(context.Cause(ctx), errTooSlow):
		state, why = protocol.Reply_STATE_FAILED, refuse(ReasonOverwritten, "given up so that other captures come out whole: this computer became too slow to read the samples of all before they are overwritten: order fewer at a time, or give the receiver a longer history")
	case errors.As(context.Cause(ctx), &why):
		state = protocol.Reply_STATE_REFUSED
	case ctx.Err() != nil:
		state, why = protocol.Reply_STATE_FAILED, refuse(ReasonInterrupted, "the agent stopped before the order was carried out: "+protocol.OrderAgain)
	case errors.As(err, &exceeded):
		state, why = protocol.Reply_STATE_REFUSED, historyExceeded(exceeded)
	case errors.As(err, &why):
	case errors.Is(err, history.ErrOverwritten):
		why = r.overwritten()
	default:
		why = refuse(ReasonInternal, "%v", err)
	}
	reply := r.reply(state)
	reply.ReasonCode, reply.Message = proto.String(why.code), proto.String(protocol.CleanText(why.message, protocol.MaxMessageTextBytes))
	if !why.earliest.IsZero() {
		reply.EarliestStart = proto.Int64(why.earliest.UnixNano())
	}
	return reply
}

// overwritten says that this computer was slower than the receiver, and what would help.
func (r *run) overwritten() *refusal {
	if r.peers > 1 {
		return refuse(ReasonOverwritten, "the samples were overwritten before they could be read: %d captures ran at once here: order fewer at a time, or give the receiver a longer history", r.peers)
	}
	return refuse(ReasonOverwritten, "the samples were overwritten before they could be read: give the receiver a longer history, or order a narrower band")
}

func historyExceeded(e *history.ExceededError) *refusal {
	early := e.From.Sub(e.Asked).Round(time.Millisecond).String()
	if days := e.From.Sub(e.Asked).Hours() / 24; days >= 2 {
		early = fmt.Sprintf("%.0f days", days)
	}
	from := e.From.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond) // not a time before it
	if !e.HeldFrom.IsZero() {
		const layout = "15:04:05.000Z"
		held := e.HeldFrom.UTC().Add(time.Millisecond - 1)
		why := refuse(ReasonHistoryExceeded, "the history has not all of the stretch from %s on: around detections, nearest to it, %s to %s is held: order a stretch within, or start at %s or later",
			e.Asked.UTC().Format(time.RFC3339Nano), held.Format(layout), e.HeldTo.UTC().Format(layout), from.Format(time.RFC3339Nano))
		why.earliest = e.From
		return why
	}
	why := refuse(ReasonHistoryExceeded, "%s is %s before the history begins: start at %s or later, or give the receiver a longer history",
		e.Asked.UTC().Format(time.RFC3339Nano), early, from.Format(time.RFC3339Nano))
	why.earliest = e.From
	return why
}

func (r *run) reply(state protocol.Reply_State) *protocol.Reply {
	return protocol.NewReply(r.cmd, state)
}

// wrap makes a record of a reply.
func (r *run) wrap(reply *protocol.Reply) *protocol.Record {
	rec := &protocol.Record{
		Time: proto.Int64(r.set.Now().UnixNano()),
		Body: &protocol.Record_Reply{Reply: reply},
	}
	if r.job != nil {
		rec.Receiver = proto.String(r.job.receiver.ID)
	}
	return rec
}

// progress stores a reply that is not the last.
func (r *run) progress(ctx context.Context, state protocol.Reply_State, part float64, message string) error {
	reply := r.reply(state)
	reply.Progress = proto.Float64(part)
	if message != "" {
		reply.Message = &message
	}
	if err := r.set.Sink.Put(ctx, r.wrap(reply)); err != nil {
		return fmt.Errorf("reply to command %s: %w", r.cmd.GetId(), err)
	}
	return nil
}
