package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostSuspects bounds the memory of records that were left unacknowledged.
	mostSuspects = 1000
	// mostCollectors bounds who is remembered to be online: anybody may say so who can publish there.
	mostCollectors = 256
	// refuseAfter: a record sent alone is given up after so many more times.
	refuseAfter = 5
	// farewell bounds the publishing of the last status.
	farewell = 2 * time.Second
)

// dispatch is a message for the sender.
type dispatch struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
	message  *message // nil for info and state
	done     func()   // of Elsewhere; nil: nobody waits
	order    uint64   // of the message when it was handed over
}

// receipt says that the broker has a message.
type receipt struct {
	message *message
	order   uint64
}

// session is one connection's worth of a Link. Its fields are used by the goroutine in run alone.
type session struct {
	link       *Link
	cfg        Config
	pipe       *pipe
	window     window
	batch      batch
	collectors map[string]bool
	repeat     <-chan time.Time // when Elsewhere is published again; nil: not soon
	denied     bool             // somebody said that the station is not online
	pace       []time.Time      // when the last batchRate records came, oldest first
	// outbox is for the sender. Its capacity holds a full window, as many repeats, info and state: it is never full, and
	// if it were, the message would be found unacknowledged in time.
	outbox chan dispatch
	// items come from the feeder. Capacity 64, so that the two need not wait for each other at each record; what nobody
	// takes goes back to the queue.
	items chan Item
	// receipts come from the waiter. Capacity as outbox; the waiter may wait, the session is always reading.
	receipts chan receipt
	// failed gets what ended the sender or the waiter. Capacity 2: one each.
	failed chan error
}

func newSession(l *Link, p *pipe) *session {
	room := 2*l.cfg.WindowMessages + 16
	return &session{
		link: l, cfg: l.cfg, pipe: p, collectors: map[string]bool{},
		window: window{mostMessages: l.cfg.WindowMessages, mostBytes: l.cfg.WindowBytes, timeout: l.cfg.Timeout},
		items:  make(chan Item, 64), outbox: make(chan dispatch, room), receipts: make(chan receipt, room), failed: make(chan error, 2),
	}
}

// run serves the connection until it ends or ctx does. It returns nil only for the latter, and when it is to be made anew.
func (s *session) run(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return s.pipe.abort(err)
	}
	s.cfg.Log.InfoContext(ctx, "connected to the broker", "broker", s.link.address)
	s.cfg.Queue.SetLinkUp(true)
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	tokens := make(chan pending, cap(s.outbox))
	wg.Go(func() { s.feed(inner) })
	wg.Go(func() { s.send(inner, tokens) })
	wg.Go(func() { s.wait(inner, tokens) })
	lost, err := s.loop(ctx)
	s.link.online.Store(false)
	s.cfg.Queue.SetLinkUp(false)
	cancel()
	switch {
	case err == nil && ctx.Err() == nil:
		s.pipe.leave() // and says nothing: the station stays online
	case err == nil:
		s.sayFarewell(ctx)
	case !lost:
		err = s.pipe.abort(err)
	}
	wg.Wait()
	s.giveBack()
	return err
}

// enter subscribes and says that the station is online. All of it is on its way at once: on a slow link each answer takes
// seconds.
func (s *session) enter(ctx context.Context) error {
	status := s.link.topics.Status(s.cfg.Station)
	subscribed := s.pipe.subscribe(s.link.topics.AgentFilters(s.cfg.Station)...)
	said := s.pipe.client.Publish(status, 1, true, []byte(protocol.Online))
	echo := s.pipe.subscribe(status) // after what it said, so that the first that it hears is its own word
	if err := granted(ctx, subscribed, s.cfg.Timeout); err != nil {
		return err
	}
	if err := await(ctx, said, s.cfg.Timeout); err != nil {
		return fmt.Errorf("publish %s: %w", status, err)
	}
	var started []mqtt.Token
	if s.cfg.Started != "" {
		started = s.pipe.subscribe(s.cfg.Started)
	}
	if err := granted(ctx, echo, s.cfg.Timeout); err != nil { // a station that may not hear it goes without
		s.cfg.Log.DebugContext(ctx, "the station cannot hear its own status, and will not contradict a false one", "error", err)
	}
	if err := granted(ctx, started, s.cfg.Timeout); err != nil { // it says nothing of what is published where it may not be
		s.cfg.Log.WarnContext(ctx, "the broker keeps the station from Home Assistant's topics, so it may not show up there: where a collector looks after the accounts, "+
			"mqtt.homeassistant.prefix has to be the collector's", "error", err)
	}
	return nil
}

// loop is the session's heart. lost tells that the client has noticed the end itself.
func (s *session) loop(ctx context.Context) (lost bool, err error) {
	s.catchUp(ctx)
	tick := time.NewTicker(max(min(s.cfg.Timeout/8, time.Second), time.Millisecond))
	defer tick.Stop()
	began := time.Now()
	s.announce()
	s.announceElsewhere()
	for {
		next := s.items
		if s.window.full() {
			next = nil
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-s.link.renewed:
			return false, nil
		case end := <-s.pipe.lost:
			return true, fmt.Errorf("connection lost: %w", end.err)
		case err := <-s.failed:
			return false, err
		case m := <-s.pipe.inbound:
			s.receive(ctx, m)
		case r := <-s.receipts:
			s.published(r)
			for range len(s.receipts) {
				s.published(<-s.receipts)
			}
		case item := <-next:
			s.take(item)
			for n := len(s.items); n > 0 && !s.window.full(); n-- {
				s.take(<-s.items)
			}
		case <-s.batch.timer():
			s.flush()
		case <-s.repeat:
			s.repeat = nil
			s.announceElsewhere()
		case <-s.link.changed:
			s.announce()
		case now := <-tick.C:
			if err := s.lookAfter(now); err != nil {
				return false, err
			}
			s.link.undisturbed(now.Sub(began))
			s.contradict()
		}
	}
}

// catchUp reads what the broker has retained for the station before the first record is sent: acknowledgements, and
// which collectors are online.
func (s *session) catchUp(ctx context.Context) {
	for {
		select {
		case m := <-s.pipe.inbound:
			s.receive(ctx, m)
		default:
			return
		}
	}
}

// feed brings records from the queue.
func (s *session) feed(ctx context.Context) {
	for {
		item, err := s.cfg.Queue.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.cfg.Log.ErrorContext(ctx, "the queue gives no more records", "error", err)
			}
			return
		}
		select {
		case s.items <- item:
		case <-ctx.Done():
			s.cfg.Queue.Retry(item.Spool, protocol.Ranges{{From: item.Seq, To: item.Seq}})
			return
		}
	}
}

// pending is a message that the client has.
type pending struct {
	token mqtt.Token
	dispatch
}

// send gives messages to the client, which may block for as long as the socket does.
func (s *session) send(ctx context.Context, tokens chan<- pending) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.outbox:
			if !s.pipe.client.IsConnectionOpen() {
				s.failed <- errors.New("the connection is closed")
				return
			}
			failpoint.Hit("link.publish")
			token := s.pipe.client.Publish(d.topic, d.qos, d.retained, d.payload)
			failpoint.Hit("link.published")
			select {
			case tokens <- pending{token, d}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// wait reports what the broker confirms. A token proves no more than that, and not even that once the connection that
// it belongs to is gone; each connection has a client of its own, so a token without an error is a PUBACK of this one.
func (s *session) wait(ctx context.Context, tokens <-chan pending) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-tokens:
			select {
			case <-ctx.Done():
				return
			case <-p.token.Done():
			}
			if err := p.token.Error(); err != nil {
				s.failed <- fmt.Errorf("publish %s: %w", p.topic, err)
				return
			}
			if p.done != nil {
				p.done()
			}
			if p.message == nil {
				continue
			}
			select {
			case s.receipts <- receipt{p.message, p.order}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// dispatch hands a message to the sender.
func (s *session) dispatch(d dispatch) {
	select {
	case s.outbox <- d:
	default: // see the field
		s.cfg.Log.Warn("a message could not be handed to the client in time", "topic", d.topic)
	}
}

// announce publishes what the station says of itself.
func (s *session) announce() {
	info, state := s.link.said()
	if info != nil {
		s.dispatch(dispatch{topic: s.link.topics.Info(s.cfg.Station), payload: info, qos: 1, retained: true})
	}
	if state != nil {
		s.dispatch(dispatch{topic: s.link.topics.State(s.cfg.Station), payload: state, retained: true})
	}
}

// contradict says that the station is online when somebody denied it, once a tick at most.
func (s *session) contradict() {
	if s.denied {
		s.denied = false
		s.dispatch(dispatch{topic: s.link.topics.Status(s.cfg.Station), payload: []byte(protocol.Online), qos: 1, retained: true})
	}
}

// published notes a PUBACK.
func (s *session) published(r receipt) {
	m := r.message
	if m.order != r.order {
		return // of an earlier sending
	}
	failpoint.Hit("link.confirmed")
	s.window.confirm(m, time.Now())
	switch {
	case s.cfg.BrokerAck:
		for spool, seqs := range m.seqs() {
			s.cfg.Settler.Ack(spool, seqs)
		}
		s.window.measure(m, time.Now())
		s.window.drop(m)
	case len(s.collectors) == 0:
		s.window.measure(m, time.Now())
		s.window.drop(m) // sent once, and held by the queue
	}
}

// releasePublished makes room of what the broker has, when nobody will acknowledge it soon.
func (s *session) releasePublished() {
	for _, m := range append([]*message(nil), s.window.messages...) {
		if m.published {
			s.window.drop(m)
		}
	}
}

// lookAfter sends again what was not acknowledged in time, and ends the session when the broker itself is silent.
func (s *session) lookAfter(now time.Time) error {
	if s.cfg.usedUp() {
		return errUsedUp
	}
	if s.pipe.silent(s.cfg.KeepAlive) {
		return fmt.Errorf("nothing comes from the broker: %w", errNoAnswer)
	}
	if s.window.silent(now) {
		return fmt.Errorf("messages are not confirmed: %w", errNoAnswer)
	}
	if len(s.collectors) == 0 || s.cfg.BrokerAck {
		return nil
	}
	for _, m := range s.window.due(now) {
		switch {
		case !m.published: // still on its way to the broker
		case s.window.overtaken(m):
			s.suspect(m, now)
		default:
			s.again(m, now)
		}
	}
	return nil
}

// again sends what is still unacknowledged of a message, and waits longer for it.
func (s *session) again(m *message, now time.Time) {
	m.waits++
	s.cfg.Log.Debug("a message is sent again", "records", len(m.records), "times", m.waits)
	if err := s.encode(m); err != nil {
		s.window.drop(m)
		s.retry(m)
		s.cfg.Log.Warn("a message could not be made again", "error", err)
		return
	}
	s.sendMessage(m, now)
}

// suspect deals with a message that was left unacknowledged while later ones were not. It may have been lost with the
// collector that had it, so it is sent again once; then its records go one by one, each a few times more, and those
// that are never acknowledged are given up.
func (s *session) suspect(m *message, now time.Time) {
	suspects := s.link.suspects
	if len(m.records) > 1 {
		if m.passed++; m.passed == 1 {
			s.again(m, now)
			return
		}
		for _, r := range m.records {
			if len(suspects) < mostSuspects {
				suspects[r.key] = 1
			}
		}
		s.window.drop(m)
		s.retry(m)
		return
	}
	r := m.records[0]
	if len(suspects) < mostSuspects || suspects[r.key] > 0 {
		suspects[r.key]++
	}
	if suspects[r.key] <= 1+refuseAfter {
		s.again(m, now)
		return
	}
	s.window.drop(m)
	s.refuse(r, "not acknowledged while later records were")
}

// retry gives the records of a message back to the queue, to come again.
func (s *session) retry(m *message) {
	for spool, seqs := range m.seqs() {
		s.cfg.Queue.Retry(spool, seqs)
	}
}

// refuse gives a record up.
func (s *session) refuse(r outgoing, reason string) {
	s.cfg.Log.Error("a record is given up: nobody takes it", "kind", string(r.kind), "seq", r.seq, "reason", reason)
	delete(s.link.suspects, r.key)
	s.cfg.Settler.GiveUp(r.spool, protocol.Ranges{{From: r.seq, To: r.seq}}, protocol.Gap_REASON_REFUSED)
}

// giveBack makes the queue hand out again what may not have arrived.
func (s *session) giveBack() {
	for range len(s.items) {
		item := <-s.items
		s.cfg.Queue.Retry(item.Spool, protocol.Ranges{{From: item.Seq, To: item.Seq}})
	}
	s.retry(&message{records: s.batch.records})
	s.batch.clear()
	for _, m := range s.window.messages {
		if m.published && len(s.collectors) == 0 {
			continue
		}
		s.retry(m)
	}
}

// sayFarewell publishes the station's last condition and that it is offline, and leaves.
func (s *session) sayFarewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if _, state := s.link.said(); state != nil {
		if err := s.pipe.retain(ctx, s.link.topics.State(s.cfg.Station), 0, state, farewell); err != nil {
			s.cfg.Log.DebugContext(ctx, "the last state could not be published", "error", err)
		}
	}
	err := s.pipe.retain(ctx, s.link.topics.Status(s.cfg.Station), 1, []byte(protocol.Offline), farewell)
	if err != nil {
		s.cfg.Log.DebugContext(ctx, "the last status could not be published", "error", err)
	}
	s.pipe.leave()
}

// seqs are the numbers of a message's records, by spool.
func (m *message) seqs() map[[protocol.SpoolBytes]byte]protocol.Ranges {
	out := map[[protocol.SpoolBytes]byte]protocol.Ranges{}
	for _, r := range m.records {
		ranges := out[r.spool]
		ranges.Add(r.seq)
		out[r.spool] = ranges
	}
	return out
}
