package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// acknowledgement is what an Ack says, checked.
type acknowledgement struct {
	spool    [protocol.SpoolBytes]byte
	settled  protocol.Ranges
	conflict uint64 // lowest number in conflict; 0: none
	rejected rejected
	// collector is who says so, for the log.
	collector string
}

// readAck reads an Ack from the topic of a spool. What follows a conflict is not settled: it may be another content
// that the collector has there.
func readAck(spool [protocol.SpoolBytes]byte, payload []byte) (acknowledgement, error) {
	ack, err := protocol.DecodeAck(payload)
	if err == nil {
		err = protocol.ValidateAck(ack)
	}
	if err != nil {
		return acknowledgement{}, err
	}
	if [protocol.SpoolBytes]byte(ack.GetSpool()) != spool {
		return acknowledgement{}, fmt.Errorf("spool %x: the topic says %x", ack.GetSpool(), spool)
	}
	out := acknowledgement{
		spool: spool, settled: protocol.RangesOf(ack.GetSettled()), collector: ack.GetCollector(),
		rejected: rejected{protocol.RangesOf(ack.GetRejected()), ack.GetRejectedCount()},
	}
	if ack.GetConflict() != nil {
		out.conflict = ack.GetConflict().GetFrom()
		var before protocol.Ranges
		before.AddRange(1, out.conflict-1)
		out.settled = out.settled.Intersect(before)
	}
	return out, nil
}

// refusal is an order that will not be executed, and what to answer; the answer is nil when nobody can be answered.
type refusal struct {
	answer *protocol.Reply
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(cmd *protocol.Command, state protocol.Reply_State, code, message string) *refusal {
	answer := protocol.NewReply(cmd, state)
	answer.ReasonCode, answer.Message = &code, &message
	return &refusal{reason: message, answer: answer}
}

// readCommand reads an order. The error is a *refusal.
func readCommand(payload []byte, now time.Time) (*protocol.Command, error) {
	cmd, err := protocol.DecodeCommand(payload)
	if err != nil {
		return nil, &refusal{reason: err.Error()}
	}
	id, err := uuid.Parse(cmd.GetId())
	if err != nil || id.String() != cmd.GetId() {
		return nil, &refusal{reason: fmt.Sprintf("id %.40q: want a UUID in lower case", cmd.GetId())}
	}
	if cmd.Expires == nil {
		return nil, refuse(cmd, protocol.Reply_STATE_REFUSED, "malformed", "expires is missing: say until when the order holds")
	}
	if expires := time.Unix(0, cmd.GetExpires()); !now.Before(expires) {
		return nil, refuse(cmd, protocol.Reply_STATE_EXPIRED, "expired",
			fmt.Sprintf("the order held until %s, and here it is %s: check both clocks",
				expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
	}
	if cmd.GetOrder() == nil {
		return nil, refuse(cmd, protocol.Reply_STATE_REFUSED, "unknown_order", "this agent knows no such order: update it")
	}
	return cmd, nil
}

// receive acts on one message from the broker.
func (s *session) receive(ctx context.Context, m inbound) {
	s.pipe.received(m)
	if s.started(m) {
		return
	}
	topic, err := s.link.topics.Parse(m.topic)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a message on an unknown topic was ignored", "error", err)
		return
	}
	if topic.Station != "" && topic.Station != s.cfg.Station {
		if left, ok := s.link.foreign.say(time.Now()); ok {
			s.cfg.Log.WarnContext(ctx, "a message that is not for this station was ignored", "topic", m.topic, "lines_left_out", left)
		}
		return
	}
	switch topic.Class {
	case protocol.TopicAck:
		s.acknowledged(m.topic, topic.Spool, m.payload)
	case protocol.TopicCollectorStatus:
		s.collector(topic.Collector, string(m.payload) == protocol.Online)
	case protocol.TopicStatus:
		s.denied = string(m.payload) != protocol.Online
	case protocol.TopicCommand:
		if len(m.payload) > 0 { // a retained one was cleared, or it was too large
			s.ordered(ctx, m.payload)
		}
	default:
		s.cfg.Log.DebugContext(ctx, "a message was ignored", "topic", m.topic)
	}
}

func (s *session) acknowledged(topic string, spool [protocol.SpoolBytes]byte, payload []byte) {
	if len(payload) == 0 {
		return // a retained one was cleared, or it was too large
	}
	ack, err := readAck(spool, payload)
	if err != nil {
		if left, ok := s.link.ignored.say(time.Now()); ok {
			s.cfg.Log.Warn("an acknowledgement makes no sense and was ignored: see who publishes there, and clear it at the broker if it is retained",
				"topic", topic, "error", err, "lines_left_out", left)
		}
		return
	}
	s.sayRejected(ack)
	failpoint.Hit("link.acknowledged")
	s.cfg.Settler.Ack(spool, ack.settled)
	failpoint.Hit("link.settled")
	settled := s.window.settle(spool, ack.settled, time.Now())
	for _, k := range settled {
		delete(s.link.suspects, k)
	}
	if len(settled) > 0 {
		s.link.backoff.reset()
	}
	if ack.conflict > 0 {
		s.window.forget(spool, ack.conflict)
		s.cfg.Settler.Conflict(spool, ack.conflict)
	}
}

// collector notes that a collector came or went. When the first one comes, it has nothing of what was sent before.
func (s *session) collector(id string, online bool) {
	before := len(s.collectors) > 0
	if online {
		if len(s.collectors) < mostCollectors {
			s.collectors[id] = true
		}
	} else {
		delete(s.collectors, id)
	}
	after := len(s.collectors) > 0
	s.link.online.Store(after)
	switch {
	case after && !before:
		s.cfg.Log.Info("a collector is online", "collector", id)
		if !s.cfg.BrokerAck {
			s.window.clear()
			s.batch.clear()
			for range len(s.items) { // they come again
				<-s.items
			}
			s.cfg.Queue.Rewind()
		}
	case before && !after:
		s.cfg.Log.Info("no collector is online: records are sent once and held", "collector", id)
		s.releasePublished()
	}
}

// ordered passes an order on.
func (s *session) ordered(ctx context.Context, payload []byte) {
	arrived := time.Now()
	if !s.link.orderly.take(arrived) {
		s.sayRefused(ctx, arrived, errTooManyOrders)
		return
	}
	cmd, err := readCommand(payload, s.cfg.Now())
	if err == nil {
		select {
		case s.link.orders <- cmd:
			return
		default:
			err = refuse(cmd, protocol.Reply_STATE_REFUSED, "busy", "too many orders wait at this station: try again later")
		}
	}
	s.sayRefused(ctx, arrived, err)
	if r, ok := errors.AsType[*refusal](err); ok && r.answer != nil && s.link.answers.take(arrived) {
		s.cfg.Answer(ctx, r.answer)
	}
}

var errTooManyOrders = errors.New("far more orders come than any collector gives; this one is left for its repetition")

func (s *session) sayRefused(ctx context.Context, now time.Time, err error) {
	if left, ok := s.link.refused.say(now); ok {
		s.cfg.Log.WarnContext(ctx, "an order was refused", "error", err, "lines_left_out", left)
	}
}
