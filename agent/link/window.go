package link

import (
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
	if !w.owed() {
		w.heard = now
	}
	if m.order == 0 {
		m.bytes = len(m.payload)
		w.messages = append(w.messages, m)
		w.bytes += m.bytes
	}
	w.order++
	m.order, m.sent, m.published = w.order, now, false
	m.ahead = w.bytes
}

// owed tells whether the broker has something to confirm.
func (w *window) owed() bool {
	for _, m := range w.messages {
		if !m.published {
			return true
		}
	}
	return false
}

// confirm notes a PUBACK.
func (w *window) confirm(m *message, now time.Time) { m.published, w.heard = true, now }

// silent tells whether the broker owes confirmations and has given none for longer than the slowest link would take.
func (w *window) silent(now time.Time) bool {
	unconfirmed := 0
	for _, m := range w.messages {
		if !m.published {
			unconfirmed += m.bytes
		}
	}
	if unconfirmed == 0 {
		return false
	}
	return now.Sub(w.heard) > w.timeout+time.Duration(unconfirmed)*time.Second/slowestLink
}

// drop takes a message out of the window.
func (w *window) drop(m *message) {
	for i := range w.messages {
		if w.messages[i] == m {
			w.messages = append(w.messages[:i], w.messages[i+1:]...)
			w.bytes -= m.bytes
			return
		}
	}
}

// clear takes everything out.
func (w *window) clear() { w.messages, w.bytes = nil, 0 }

// settle notes an acknowledgement and returns which records on their way it was about.
func (w *window) settle(spool [protocol.SpoolBytes]byte, ranges protocol.Ranges, now time.Time) []key {
	var done []key
	for _, m := range append([]*message(nil), w.messages...) {
		open := m.records[:0]
		for _, r := range m.records {
			if r.spool == spool && ranges.Contains(r.seq) {
				done = append(done, r.key)
				w.settled = max(w.settled, m.order)
			} else {
				open = append(open, r)
			}
		}
		m.records = open
		if len(open) == 0 {
			w.measure(m, now)
			w.drop(m)
		}
	}
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
	for _, m := range append([]*message(nil), w.messages...) {
		open := m.records[:0]
		for _, r := range m.records {
			if r.spool != spool || r.seq < lowest {
				open = append(open, r)
			}
		}
		if m.records = open; len(open) == 0 {
			w.drop(m)
		}
	}
}
