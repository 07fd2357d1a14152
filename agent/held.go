package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostHeld is how many bytes wait in memory for the clock to be set: nine days of the default plan.
	mostHeld = 16 << 20
	// heldOverhead is what a record takes in memory beside its bytes.
	heldOverhead = 128
	// placeholder begins the id of a record that has no number yet.
	placeholder = "held-"
	// breath is how many bytes are passed on before the disk is waited for: the spool, too, has a bound.
	breath = 256 << 10
)

func newHeld(p publisher, log *slog.Logger) *held {
	return &held{
		clock: p.clock, station: p.station, log: log, limit: mostHeld, store: p.store,
		names: names{known: map[string]string{}}, lost: map[spool.Lane]*protocol.Gap{},
	}
}

// held keeps the records that were made while the clock was unset until it is set, stamps them by the monotonic clock, and
// passes them on in order, before any that was made later. What carries a time of its own never waits: simulations and
// recordings, and the replies to orders, which somebody waits for.
//
// When memory is full the least valuable records go first, and a Gap tells how many. Where the agent stops before the clock
// is set they are passed on as they are, of time quality unset: counted from the build date, in order and with right
// distances, which beats losing them, and a time that collectors take.
type held struct {
	clock   *clock.Clock
	station string
	log     *slog.Logger
	limit   int64
	store   func(ctx context.Context, r *protocol.Record, durable bool) (id string, err error)
	names   names
	passed  atomic.Bool // nothing waits, and nothing will again

	// mu guards the fields below, and is held while records are passed on.
	mu      sync.Mutex
	count   uint64                       // records held since the start
	waiting [heldClasses][]heldRecord    // by what goes first
	bytes   int64                        // of all that wait
	since   int64                        // bytes passed on since the disk was waited for
	lost    map[spool.Lane]*protocol.Gap // what had to go
}

// heldRecord is a record that waits.
type heldRecord struct {
	number  uint64
	lane    spool.Lane
	time    int64
	payload []byte
}

func (r heldRecord) bytes() int64 { return int64(len(r.payload)) + heldOverhead }

// heldClasses are what goes first when there is no room, as on the disk: samples, spectra, everything else. The last class
// never goes.
const heldClasses = 4

func heldClass(lane spool.Lane) int {
	switch lane {
	case spool.LaneIQ:
		return 0
	case spool.LaneSpectrum:
		return 1
	case spool.LaneMeasurement, spool.LaneDetection, spool.LaneHealth:
		return 2
	default:
		return heldClasses - 1
	}
}

// run passes on what waits when the clock is set.
func (h *held) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-h.clock.Set():
	}
	if err := h.end(ctx); err != nil {
		h.log.WarnContext(ctx, "what waited for the clock is not stored yet", "error", err)
	}
}

// end passes on what waits, with the time as it is known now.
func (h *held) end(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.release(ctx); err != nil {
		return err
	}
	h.passed.Store(true)
	return nil
}

// publish passes a record on, or holds it; then its id is a placeholder.
func (h *held) publish(ctx context.Context, r *protocol.Record) (string, error) {
	if h.passed.Load() {
		return h.pass(ctx, r, "", false)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch set := h.clock.Reading().Set; {
	case !set && h.unset(r):
		return h.hold(ctx, r)
	case set:
		if err := h.release(ctx); err != nil {
			return "", err
		}
		h.passed.Store(true)
	}
	return h.pass(ctx, r, "", false)
}

// unset tells whether a record was stamped by the clock before that was set. A recording without times counts from 1970.
func (h *held) unset(r *protocol.Record) bool {
	return r.TimeQuality != nil && r.GetTimeQuality() == protocol.TimeQuality_TIME_QUALITY_UNSET && r.GetTime() >= h.clock.Floor().UnixNano()
}

// stamp gives a record its true time, once that is known.
func (h *held) stamp(r *protocol.Record) {
	if !h.unset(r) {
		return
	}
	at := h.clock.Correct(time.Unix(0, r.GetTime()))
	if !at.Set {
		return
	}
	stamp(r, at)
	if health := r.GetHealth(); health != nil {
		health.Now = r.Time
	}
}

// pass stamps a record and stores it. name is the placeholder that it was known by; empty when it had none.
func (h *held) pass(ctx context.Context, r *protocol.Record, name string, durable bool) (string, error) {
	h.stamp(r)
	detection := r.GetDetection()
	if detection == nil {
		return h.store(ctx, r, durable)
	}
	first := detection.DetectionId
	detection.DetectionId = h.names.of(first)
	id, err := h.store(ctx, r, durable)
	if err != nil {
		detection.DetectionId = first // the same record may be offered again
		return "", err
	}
	if first != nil {
		name = *first
	}
	h.names.note(name, id, detection)
	return id, nil
}

// hold keeps a record. The caller holds mu.
func (h *held) hold(ctx context.Context, r *protocol.Record) (string, error) {
	r.Station = proto.String(h.station)
	payload, err := protocol.Encode(r)
	if err != nil {
		return "", fmt.Errorf("encode a %s: %w", r.Kind(), err)
	}
	h.count++
	record := heldRecord{h.count, spool.LaneOf(r.Kind()), r.GetTime(), payload}
	class := heldClass(record.lane)
	h.waiting[class] = append(h.waiting[class], record)
	h.bytes += record.bytes()
	for h.bytes > h.limit && h.shed(ctx) {
	}
	return fmt.Sprintf("%s%d", placeholder, record.number), nil
}

// shed gives the least valuable record up; false when there is none that may go. The caller holds mu.
func (h *held) shed(ctx context.Context) bool {
	for class := range heldClasses - 1 {
		if len(h.waiting[class]) == 0 {
			continue
		}
		record := h.waiting[class][0]
		h.waiting[class][0] = heldRecord{}
		h.waiting[class] = h.waiting[class][1:]
		h.bytes -= record.bytes()
		gap := h.lost[record.lane]
		if gap == nil {
			h.log.WarnContext(ctx, "memory is full while the clock is not set: records are given up", "lane", string(record.lane))
			gap = &protocol.Gap{
				Reason: protocol.Gap_REASON_QUOTA.Enum(), Lane: proto.String(string(record.lane)), Records: new(uint64), Bytes: new(uint64),
				From: proto.Int64(record.time), To: proto.Int64(record.time),
			}
			h.lost[record.lane] = gap
		}
		*gap.Records++
		*gap.Bytes += uint64(len(record.payload))
		*gap.From, *gap.To = min(*gap.From, record.time), max(*gap.To, record.time)
		return true
	}
	return false
}

// release passes on what waits: first what was lost, then the records in the order in which they came. What could not be
// passed on stays. The caller holds mu.
func (h *held) release(ctx context.Context) error {
	for _, lane := range spool.Lanes() {
		if gap := h.lost[lane]; gap != nil {
			if _, err := h.store(ctx, h.gapRecord(gap), false); err != nil {
				return err
			}
			delete(h.lost, lane)
		}
	}
	for h.bytes > 0 {
		class := h.oldest()
		record := h.waiting[class][0]
		if err := h.restore(ctx, record); err != nil {
			return err
		}
		h.waiting[class] = h.waiting[class][1:]
		h.bytes -= record.bytes()
	}
	h.waiting = [heldClasses][]heldRecord{}
	return nil
}

// oldest is the class that holds the record that came first. The caller holds mu, and there is one.
func (h *held) oldest() int {
	found := -1
	for class, records := range h.waiting {
		if len(records) > 0 && (found < 0 || records[0].number < h.waiting[found][0].number) {
			found = class
		}
	}
	return found
}

// restore passes a record on that waited. Only what may succeed later is an error.
func (h *held) restore(ctx context.Context, record heldRecord) error {
	r, err := protocol.Decode(record.payload)
	if err == nil {
		h.since += record.bytes()
		durable := h.since > breath
		if durable {
			h.since = 0
		}
		_, err = h.pass(ctx, r, fmt.Sprintf("%s%d", placeholder, record.number), durable)
	}
	if ctx.Err() != nil || errors.Is(err, spool.ErrClosed) {
		return err
	}
	if err != nil {
		h.log.ErrorContext(ctx, "a record that waited for the clock cannot be stored", "error", err)
	}
	return nil
}

// gapRecord tells what was given up, in true times once they are known.
func (h *held) gapRecord(gap *protocol.Gap) *protocol.Record {
	told := proto.CloneOf(gap)
	from, to := h.clock.Correct(time.Unix(0, gap.GetFrom())), h.clock.Correct(time.Unix(0, gap.GetTo()))
	told.From, told.To = proto.Int64(from.Time.UnixNano()), proto.Int64(to.Time.UnixNano())
	return &protocol.Record{Time: proto.Int64(h.clock.Now().UnixNano()), Body: &protocol.Record_Gap{Gap: told}}
}

// size is how many records wait.
func (h *held) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, records := range h.waiting {
		n += len(records)
	}
	return n
}

// names are the ids of emissions whose first record was known by a placeholder.
type names struct {
	mu    sync.Mutex // guards known
	known map[string]string
}

// of is the id that the records of an emission carry: nil for the first of them that is stored, because the one before it
// was given up.
func (n *names) of(first *string) *string {
	if first == nil || !strings.HasPrefix(*first, placeholder) {
		return first
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, ok := n.known[*first]; ok {
		return &id
	}
	return nil
}

// note remembers the id of an emission's first stored record until its last one.
func (n *names) note(first, id string, d *protocol.Detection) {
	if !strings.HasPrefix(first, placeholder) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !d.GetOpen() {
		delete(n.known, first)
	} else if _, known := n.known[first]; !known {
		n.known[first] = id
	}
}
