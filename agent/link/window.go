package link

import (
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// rateSpan: no more bytes are on their way than the link has lately carried in this time.
	rateSpan = 5 * time.Second
	// smallestWindow in bytes, however slow the link: enough to find out that it has become faster.
	smallestWindow = 4 << 10
	// slowestLink in bytes a second (2 kbit/s) still gets everything through before the session counts as silent.
	slowestLink = 250
	// longestTimeout is how many times the first time-out for an acknowledgement may grow to.
	longestTimeout = 10
)

// key names a record.
type key struct {
	spool [protocol.SpoolBytes]byte
	seq   uint64
}

// outgoing is a record on its way, with its identity.
type outgoing struct {
	key
	kind   protocol.Kind
	sealed []byte
}

// message is what was given to the broker at once: records that are not settled yet.
type message struct {
	records []outgoing
	topic   string
	payload []byte
	bytes   int    // of the payload as first sent
	order   uint64 // counts what is sent, again or for the first time
	sent    time.Time
	waits   int // time-outs so far: each doubles the next
	passed  int // time-outs at which something sent later was acknowledged
	// published says that the broker has it.
	published bool
	// ahead is how many bytes were on their way, with this, when it was sent.
	ahead int
}

// window is what is on its way. It is not safe for concurrent use.
type window struct {
	mostMessages int
	mostBytes    int
	timeout      time.Duration

	messages []*message
	bytes    int
	owes     int       // messages that the broker has not confirmed
	owed     int       // and their bytes
	order    uint64    // of the last message sent
	settled  uint64    // highest order of which a record was acknowledged
	rate     float64   // bytes a second that the link carries; 0: not known yet
	heard    time.Time // when the broker last confirmed something, or began to owe a confirmation
}

// limitBytes is how many bytes may be on their way now.
func (w *window) limitBytes() int {
	return min(w.mostBytes, max(smallestWindow, int(w.rate*rateSpan.Seconds())))
}

func (w *window) full() bool {
	return len(w.messages) >= w.mostMessages || w.bytes >= w.limitBytes()
}

// send notes that a message is given to the broker now, for the first time or again.
func (w *window) send(m *message, now time.Time) {
	if w.owes == 0 {
		w.heard = now
	}
	if m.order == 0 {
		m.bytes = len(m.payload)
		w.messages = append(w.messages, m)
		w.bytes += m.bytes
	}
	if m.order == 0 || m.published {
		w.owes++
		w.owed += m.bytes
	}
	w.order++
	m.order, m.sent, m.published = w.order, now, false
	m.ahead = w.bytes
}

// confirm notes a PUBACK.
func (w *window) confirm(m *message, now time.Time) {
	w.heard = now
	if !m.published {
		m.published = true
		w.owes--
		w.owed -= m.bytes
	}
}

// silent tells whether the broker owes confirmations and has given none for longer than the slowest link would take.
func (w *window) silent(now time.Time) bool {
	return w.owes > 0 && now.Sub(w.heard) > w.timeout+carriedIn(w.owed)
}

// drop takes a message out of the window.
func (w *window) drop(m *message) {
	if i := slices.Index(w.messages, m); i >= 0 {
		w.messages = slices.Delete(w.messages, i, i+1)
		w.left(m)
	}
}

// left accounts for a message that is no longer in the window. A confirmation of it that comes later is for nothing.
func (w *window) left(m *message) {
	w.bytes -= m.bytes
	if !m.published {
		w.owes--
		w.owed -= m.bytes
	}
	m.order = 0
}

// clear takes everything out.
func (w *window) clear() { w.thin(func(*message, outgoing) bool { return true }, func(*message) {}) }

// thin takes out the records that are gone, and the messages of which none is left, after a last look at them.
func (w *window) thin(gone func(*message, outgoing) bool, last func(*message)) {
	w.messages = slices.DeleteFunc(w.messages, func(m *message) bool {
		m.records = slices.DeleteFunc(m.records, func(r outgoing) bool { return gone(m, r) })
		if len(m.records) > 0 {
			return false
		}
		last(m)
		w.left(m)
		return true
	})
}

// settle notes an acknowledgement and returns which records on their way it was about.
func (w *window) settle(spool [protocol.SpoolBytes]byte, ranges protocol.Ranges, now time.Time) []key {
	var done []key
	w.thin(func(m *message, r outgoing) bool {
		arrived := r.spool == spool && ranges.Contains(r.seq)
		if arrived {
			done = append(done, r.key)
			w.settled = max(w.settled, m.order)
		}
		return arrived
	}, func(m *message) { w.measure(m, now) })
	return done
}

// measure learns from a message that arrived how much the link carries.
func (w *window) measure(m *message, now time.Time) {
	took := max(now.Sub(m.sent), time.Millisecond)
	rate := float64(m.ahead) / took.Seconds()
	if w.rate == 0 {
		w.rate = rate
		return
	}
	w.rate += (rate - w.rate) / 8
}

// due are the messages that were not acknowledged in time.
func (w *window) due(now time.Time) []*message {
	var due []*message
	for _, m := range w.messages {
		wait := min(w.timeout<<min(m.waits, 16), longestTimeout*w.timeout)
		if now.Sub(m.sent) >= wait {
			due = append(due, m)
		}
	}
	return due
}

// overtaken tells whether something sent after m was acknowledged, and m was not.
func (w *window) overtaken(m *message) bool { return m.order < w.settled }

// forget drops the records of a spool from a number on.
func (w *window) forget(spool [protocol.SpoolBytes]byte, lowest uint64) {
	w.thin(func(_ *message, r outgoing) bool { return r.spool == spool && r.seq >= lowest }, func(*message) {})
}
