// Package command gets orders to stations: it publishes a command, repeats it until the station replies, and gives up
// when the command expires.
//
// A station executes a command's id once, and answers a repeated one with its last reply, so repeating is harmless. What
// is on its way is kept in memory only: whoever gave an order that matters issues it again after a restart, under the
// same id. So are the times that stations take to answer, which tell how long before its start a capture must be ordered.
package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	repeatFirst = 2 * time.Second
	repeatMax   = 30 * time.Second
	retry       = time.Second // when there is no session with the broker
	// Orders on their way at once. Over it Issue refuses: somebody orders faster than stations answer.
	maxPending = 10_000
	// Publishes to one station at once: enough for 160 orders a second at a round trip of 100 ms. The others wait, and go by
	// their priority.
	maxSending = 16
)

// ErrBusy says that too many commands wait for a reply.
var ErrBusy = errors.New("too many commands wait for a reply")

// Sender publishes one message and returns when the broker has it.
type Sender interface {
	Publish(ctx context.Context, topic string, retained bool, payload []byte) error
}

// Dispatcher repeats commands until they are answered.
type Dispatcher struct {
	topics protocol.Topics
	sender Sender
	log    *slog.Logger
	// wake says that the next due time may have changed. Capacity 1: one notice is as good as many.
	wake chan struct{}

	mu      sync.Mutex            // guards all below, and the orders in pending
	issued  uint64                // how many orders there were
	pending map[string]*order     // by command id
	times   map[string]replyTimes // by station
}

// order is a command on its way.
type order struct {
	id      string
	station string
	payload []byte
	expires time.Time
	due     time.Time
	repeat  time.Duration // until the time after next
	sending bool
	weight  int32     // priority: of what is due, the highest goes first
	number  uint64    // and then what was issued first
	timed   bool      // the time of its reply tells how far away the station is
	first   time.Time // when it was first given to the broker
	sends   int       // that the broker may have
}

// New makes a Dispatcher; Run publishes.
func New(topics protocol.Topics, sender Sender, log *slog.Logger) *Dispatcher {
	return &Dispatcher{
		topics: topics, sender: sender, log: log,
		wake: make(chan struct{}, 1), pending: make(map[string]*order), times: make(map[string]replyTimes),
	}
}

// Issue has a command published at once, and again until the station replies to it or it expires. It does not wait for
// the broker. An id that is on its way already is left as it is. Errors: ErrBusy, or a *protocol.Error about the command.
func (d *Dispatcher) Issue(_ context.Context, station string, c *protocol.Command) error {
	if err := protocol.ValidStation(station); err != nil {
		return err
	}
	if err := protocol.ValidateCommand(c); err != nil {
		return err
	}
	payload, err := protocol.Encode(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pending[c.GetId()]; ok {
		return nil
	}
	if len(d.pending) >= maxPending {
		return fmt.Errorf("command for %s: %w", station, ErrBusy)
	}
	weight := c.GetCapture().GetPriority()
	if c.GetCancel() != nil {
		weight = math.MaxInt32 // what is not to begin had better not
	}
	d.issued++
	d.pending[c.GetId()] = &order{
		id: c.GetId(), station: station, payload: payload,
		expires: time.Unix(0, c.GetExpires()), due: time.Now(), repeat: repeatFirst, timed: c.GetCapture() != nil,
		weight: weight, number: d.issued,
	}
	d.notify()
	return nil
}

// Forget stops repeating a command.
func (d *Dispatcher) Forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, id)
}

// Observe learns from new records which commands were answered. Any reply of the station will do: it has the command.
func (d *Dispatcher) Observe(_ context.Context, fresh []protocol.StoredRecord) {
	for _, rec := range fresh {
		reply := rec.Record.GetReply()
		if reply == nil {
			continue
		}
		d.mu.Lock()
		if o, ok := d.pending[reply.GetCommandId()]; ok && o.station == rec.Record.GetStation() {
			d.noteReply(o, time.Now())
			delete(d.pending, reply.GetCommandId())
		}
		d.mu.Unlock()
	}
}

// Pending counts the commands that wait for a reply.
func (d *Dispatcher) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending)
}

func (d *Dispatcher) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run publishes what is due until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	var sends sync.WaitGroup
	defer sends.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := d.collect(time.Now())
		for _, o := range due {
			sends.Go(func() { d.send(ctx, o) })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// collect takes what is due, the most urgent first, drops what has expired, and tells how long until something is due next.
func (d *Dispatcher) collect(now time.Time) (due []*order, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next = time.Hour
	sending := make(map[string]int) // by station
	for id, o := range d.pending {
		switch {
		case !now.Before(o.expires):
			delete(d.pending, id)
			d.log.Info("a command expired without a reply", "station", o.station, "command", id)
		case o.sending: // its end will wake Run
			sending[o.station]++
		case !now.Before(o.due):
			due = append(due, o)
			next = min(next, o.expires.Sub(now))
		default:
			next = min(next, o.due.Sub(now), o.expires.Sub(now))
		}
	}
	slices.SortFunc(due, func(a, b *order) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.number, b.number))
	})
	due = slices.DeleteFunc(due, func(o *order) bool {
		if sending[o.station] >= maxSending {
			return true // when one of these ends
		}
		sending[o.station]++
		o.sending = true
		return false
	})
	return due, next
}

func (d *Dispatcher) send(ctx context.Context, o *order) {
	d.mu.Lock()
	if o.sends == 0 {
		o.first = time.Now()
	}
	o.sends++ // also when it fails below: the broker may have it before its confirmation is lost
	d.mu.Unlock()
	err := d.sender.Publish(ctx, d.topics.Command(o.station), false, o.payload)
	d.mu.Lock()
	o.sending = false
	if err != nil {
		o.due = time.Now().Add(retry)
	} else {
		o.due = time.Now().Add(o.repeat)
		o.repeat = min(2*o.repeat, repeatMax)
	}
	d.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		d.log.DebugContext(ctx, "cannot publish a command, trying again", "station", o.station, "command", o.id, "error", err)
	}
	d.notify()
}
