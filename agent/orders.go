package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// orders carries out what the network asks of the station, within its owner's rules. A command is carried out once: when
// its id comes again after its end, the last reply is given again.
type orders struct {
	agent    *Agent
	log      *slog.Logger
	commands chan *protocol.Command // capacity waitingOrders; when full a command is dropped, and comes again

	mu      sync.Mutex // guards all below
	running map[string]context.CancelCauseFunc
	paused  bool
	jobs    sync.WaitGroup
}

const (
	// waitingOrders is how many commands may wait while an earlier one is looked at, which takes one write to the disk.
	waitingOrders = 256
	// mostOrders is how many captures and orders to tune run at once; a capture holds a filter and a chunk of samples, some
	// 200 KB.
	mostOrders = 64
	// mostAhead is how far the clocks of a collector and a station may be apart, as for the times of records.
	mostAhead = 5 * time.Minute
)

func newOrders(a *Agent, log *slog.Logger) *orders {
	return &orders{agent: a, log: log, commands: make(chan *protocol.Command, waitingOrders), running: map[string]context.CancelCauseFunc{}}
}

// take accepts a command that arrived. It never waits.
func (o *orders) take(ctx context.Context, cmd *protocol.Command) {
	select {
	case o.commands <- cmd:
	default:
		o.log.WarnContext(ctx, "too many commands at once, one is left for its repetition", "command", cmd.GetId())
	}
}

// run carries out commands until the context ends, which also ends what is under way.
func (o *orders) run(ctx context.Context) {
	defer o.jobs.Wait()
	o.closeInterrupted(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case cmd := <-o.commands:
			o.execute(ctx, cmd)
		}
	}
}

// closeInterrupted gives the last word to orders that were under way when the agent stopped without one: nobody asks again for
// an order that was accepted.
func (o *orders) closeInterrupted(ctx context.Context) {
	for _, id := range o.agent.spool.Commands() {
		last, _ := o.agent.spool.Recall(id)
		reply := new(protocol.Reply)
		if proto.Unmarshal(last, reply) == nil && !reply.GetState().Final() {
			o.repeat(ctx, id, last)
		}
	}
}

func (o *orders) execute(ctx context.Context, cmd *protocol.Command) {
	id := cmd.GetId()
	if o.isRunning(id) {
		return
	}
	if last, known := o.agent.spool.Recall(id); known {
		o.repeat(ctx, id, last)
		return
	}
	rules, now := o.agent.cfg.Control, o.agent.now()
	switch order := cmd.GetOrder().(type) {
	case *protocol.Command_Capture:
		o.begin(ctx, cmd, rules.judge("capture", order.Capture.GetDurationS(), now), o.agent.recorder.Capture)
	case *protocol.Command_Tune:
		o.begin(ctx, cmd, rules.judge("tune", order.Tune.GetDurationS(), now), o.agent.recorder.Tune)
	case *protocol.Command_Cancel:
		o.cancel(ctx, cmd, order.Cancel.GetId())
	case *protocol.Command_Resend:
		o.resend(ctx, cmd, order.Resend)
	default:
		o.refuse(ctx, cmd, "unknown_order", "this version of the agent does not know the order; update it, or ask for something else")
	}
}

func (o *orders) isRunning(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, running := o.running[id]
	return running
}

// setPaused says that the station is paused, or no longer. Orders under way end with the first.
func (o *orders) setPaused(paused bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.paused = paused
	for _, cancel := range o.running {
		if paused {
			cancel(recorder.ErrPaused)
		}
	}
}

// note notes that an order is under way, unless the station is paused or too many are.
func (o *orders) note(id string, cancel context.CancelCauseFunc) *refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.paused {
		return &refusal{recorder.ReasonPaused, "the owner of this station has paused it; state says since when"}
	}
	if len(o.running) >= mostOrders {
		return &refusal{recorder.ReasonBusy, fmt.Sprintf("%d orders are under way at this station: "+protocol.OrderAgain+" when one has ended", mostOrders)}
	}
	o.running[id] = cancel
	return nil
}

func (o *orders) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, id)
}

// begin carries out, beside others, an order that takes a while; no is what the owner's rules say against it.
func (o *orders) begin(ctx context.Context, cmd *protocol.Command, no *refusal, carryOut func(context.Context, *protocol.Command) error) {
	if !o.agent.clock.Reading().Set {
		o.refuse(ctx, cmd, recorder.ReasonClockUncertain, "the clock of this station is not set: it cannot tell whether the order still holds, nor when it would begin; "+protocol.OrderAgain+" when state says time_quality other than unset")
		return
	}
	if ahead := time.Unix(0, cmd.GetIssued()).Sub(o.agent.now()); ahead > mostAhead {
		o.refuse(ctx, cmd, "issued_ahead", fmt.Sprintf("the order was given %v ahead of this station's time: check both clocks; "+protocol.OrderAgain+" when they agree", ahead.Round(time.Second)))
		return
	}
	if no != nil {
		o.refuse(ctx, cmd, no.code, no.message)
		return
	}
	id := cmd.GetId()
	running, cancel := context.WithCancelCause(ctx)
	if no := o.note(id, cancel); no != nil {
		cancel(nil)
		o.refuse(ctx, cmd, no.code, no.message)
		return
	}
	o.jobs.Go(func() {
		defer cancel(nil)
		defer o.end(id)
		if err := carryOut(running, cmd); err != nil {
			o.log.ErrorContext(ctx, "an order's last reply could not be stored", "command", id, "error", err)
		}
	})
}

func (o *orders) cancel(ctx context.Context, cmd *protocol.Command, target string) {
	o.mu.Lock()
	stop, running := o.running[target]
	o.mu.Unlock()
	if !running {
		o.refuse(ctx, cmd, "not_running", fmt.Sprintf("no order %s is being carried out here; it has ended or never came", target))
		return
	}
	stop(recorder.ErrCancelled)
	o.reply(ctx, protocol.NewReply(cmd, protocol.Reply_STATE_DONE))
}

// resend sends again what a collector no longer has: what was acknowledged too, as far as it is still kept here.
func (o *orders) resend(ctx context.Context, cmd *protocol.Command, order *protocol.Resend) {
	identity := o.agent.spool.Identity()
	if len(order.GetSpool()) == len(identity) {
		identity = [protocol.SpoolBytes]byte(order.GetSpool())
	}
	again, gone, err := o.agent.spool.Resend(ctx, identity, protocol.RangesOf(order.GetRanges()))
	if errors.Is(err, spool.ErrUnknownSpool) {
		o.refuse(ctx, cmd, "unknown_spool", fmt.Sprintf("no spool %x is at this station: what was in it is gone, but for what the present one declared", identity))
		return
	}
	if err != nil {
		o.log.WarnContext(ctx, "records could not be made ready to be sent again", "command", cmd.GetId(), "error", err)
		return // the agent is stopping; the command comes again
	}
	o.log.InfoContext(ctx, "records are sent again by order", "command", cmd.GetId(), "records", again, "gone", gone)
	reply := protocol.NewReply(cmd, protocol.Reply_STATE_DONE)
	reply.Message = proto.String(fmt.Sprintf("%d of these records were still here and are sent again; %d are gone", again, gone))
	o.reply(ctx, reply)
}

// repeat gives the last reply again. An order that was under way when the agent stopped can no longer be finished: its samples
// were in memory.
func (o *orders) repeat(ctx context.Context, id string, last []byte) {
	reply := new(protocol.Reply)
	if err := proto.Unmarshal(last, reply); err != nil {
		o.log.ErrorContext(ctx, "cannot read the remembered reply", "command", id, "error", err)
		return
	}
	if !reply.GetState().Final() {
		reply.State = protocol.Reply_STATE_FAILED.Enum()
		reply.ReasonCode = proto.String(recorder.ReasonInterrupted)
		reply.Message = proto.String("the agent stopped before the order was carried out: " + protocol.OrderAgain)
	}
	o.reply(ctx, reply)
}

func (o *orders) refuse(ctx context.Context, cmd *protocol.Command, code, message string) {
	o.log.InfoContext(ctx, "order refused", "command", cmd.GetId(), "reason", code)
	reply := protocol.NewReply(cmd, protocol.Reply_STATE_REFUSED)
	reply.ReasonCode, reply.Message = &code, &message
	o.reply(ctx, reply)
}

func (o *orders) reply(ctx context.Context, reply *protocol.Reply) {
	record := &protocol.Record{Time: proto.Int64(o.agent.now().UnixNano()), Body: &protocol.Record_Reply{Reply: reply}}
	if err := o.agent.replies.Put(ctx, record); err != nil {
		o.log.ErrorContext(ctx, "cannot store a reply", "command", reply.GetCommandId(), "error", err)
	}
}

// replySink remembers the last reply to each command beside storing it, so that the command is not carried out twice.
//
// Killed between the two, the agent must neither carry out an order again nor leave it without a last word: so a reply
// that begins is remembered before it is stored, and one that ends is stored before it is remembered.
type replySink struct{ publisher }

// Put stores the record durably.
func (s replySink) Put(ctx context.Context, r *protocol.Record) error {
	reply := r.GetReply()
	switch {
	case reply == nil:
		return s.publisher.Put(ctx, r)
	case reply.GetState().Final():
		if err := s.publisher.Put(ctx, r); err != nil {
			return err
		}
		return s.remember(ctx, reply)
	}
	if err := s.remember(ctx, reply); err != nil {
		return err
	}
	return s.publisher.Put(ctx, r)
}

func (s replySink) remember(ctx context.Context, reply *protocol.Reply) error {
	text, err := proto.Marshal(reply)
	if err != nil {
		return fmt.Errorf("encode a reply: %w", err)
	}
	if err := s.spool.Remember(ctx, reply.GetCommandId(), text); err != nil {
		return fmt.Errorf("remember the reply to %s: %w", reply.GetCommandId(), err)
	}
	return nil
}
