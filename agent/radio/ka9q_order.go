package radio

import (
	"errors"
	"time"
)

// rtpOrder puts the packets of one RTP stream in order and finds what is missing. Sequence numbers tell what the network lost,
// timestamps, which count samples, tell how much, and what was never sent: a muted stretch is a jump of the timestamp without
// one of the sequence number.
type rtpOrder struct {
	sink  rtpSink
	width int    // bytes of a sample
	far   uint64 // samples that the stream may jump beyond what is known of it

	synced  bool
	next    uint16 // sequence number that is due
	at      uint64 // timestamp that is due, counted on over its wraps
	sent    uint64 // how far the sender is, by its own word
	longest uint64 // samples of the largest packet so far
	stale   int    // packets in a row that were no use

	slots   [rtpSlots]rtpSlot // by sequence number
	waiting int               // slots in use
	outage  bool              // what is missing now is more than sequence numbers tell
	since   time.Time         // when the first of them came
	held    bool              // nothing is passed on

	marked bool // mark is where the sink is to be told
	mark   uint64
}

// rtpSlot holds a packet that came early.
type rtpSlot struct {
	used    bool
	seq     uint16
	at      uint64
	samples []byte // memory of the slot
}

// rtpSink takes what rtpOrder has put in order.
type rtpSink interface {
	samples(at uint64, raw []byte)
	missing(n uint64, reason string)
	marked()
}

const (
	// rtpSlots is the room for packets that came early, or are held.
	rtpSlots = 256
	// A gap is waited for so long, or for so many packets after it.
	rtpPatience = 100 * time.Millisecond
	rtpEarly    = 32
	// mostStale is how many packets in a row may be old. More of them are another stream.
	mostStale = 64
	// rtpOrigin is where the count of timestamps begins, so that it can also go back.
	rtpOrigin = 1 << 40
)

// Reasons of samples that are missing.
const (
	lostNetwork = "network"
	lostMuted   = "muted"
)

var errRTPRestarted = errors.New("the stream began anew: its sequence numbers or timestamps went back")

// reset forgets the stream: the next packet begins another.
func (o *rtpOrder) reset() {
	for i := range o.slots {
		o.slots[i].used = false
	}
	o.synced, o.waiting, o.stale, o.held, o.marked, o.outage, o.longest = false, 0, 0, false, false, false, 0
}

// count is a timestamp counted on over the wraps, as the one nearest to what is known.
func (o *rtpOrder) count(timestamp uint32) uint64 {
	near := max(o.at, o.sent)
	return near + uint64(int64(int32(timestamp-uint32(near))))
}

// put takes a packet as it comes.
func (o *rtpOrder) put(p rtpPacket, now time.Time) error {
	if !o.synced {
		o.synced, o.next = true, p.seq
		o.at = rtpOrigin + uint64(p.timestamp)
		o.sent = o.at
	}
	at := o.count(p.timestamp)
	early := int(int16(p.seq - o.next))
	switch {
	case at > max(o.at, o.sent)+o.far:
		return o.refuse() // no packet of this stream, or of one that began anew
	case early < 0 && int64(at-o.at) > int64(rtpSlots*max(o.longest, 1)), early >= rtpSlots:
		o.flush() // an outage that was longer than sequence numbers tell
	case early < 0:
		return o.refuse()
	case early > 0 || o.held:
		return o.keep(p, at, now)
	}
	return o.passOn(p.seq, at, p.samples, now)
}

// refuse counts a packet that is no use: a duplicate, or one that comes too late.
func (o *rtpOrder) refuse() error {
	o.stale++
	if o.stale > mostStale {
		return errRTPRestarted
	}
	return nil
}

// keep puts a packet away that came before its turn.
func (o *rtpOrder) keep(p rtpPacket, at uint64, now time.Time) error {
	slot := &o.slots[p.seq%rtpSlots]
	if slot.used {
		return o.refuse()
	}
	slot.used, slot.seq, slot.at = true, p.seq, at
	slot.samples = append(slot.samples[:0], p.samples...)
	if o.waiting == 0 {
		o.since = now
	}
	o.waiting++
	o.stale = 0
	return o.drain(now)
}

// passOn hands on a packet whose turn it is, and those that waited for it.
func (o *rtpOrder) passOn(seq uint16, at uint64, samples []byte, now time.Time) error {
	if err := o.emit(seq, at, samples); err != nil {
		return err
	}
	o.since = now
	return o.drain(now)
}

// drain hands on what need not wait any longer.
func (o *rtpOrder) drain(now time.Time) error {
	if o.held && o.waiting < rtpSlots-rtpEarly {
		return nil
	}
	for o.waiting > 0 {
		slot := &o.slots[o.next%rtpSlots]
		if !slot.used {
			if o.waiting <= rtpEarly && now.Sub(o.since) < rtpPatience {
				return nil
			}
			slot = o.earliest()
		}
		slot.used = false
		o.waiting--
		o.since = now
		if err := o.emit(slot.seq, slot.at, slot.samples); err != nil {
			return err
		}
	}
	return nil
}

// earliest is the first packet that waits.
func (o *rtpOrder) earliest() *rtpSlot {
	seq := o.next
	for !o.slots[seq%rtpSlots].used {
		seq++
	}
	return &o.slots[seq%rtpSlots]
}

// flush hands on all that waits. What is missing after it, sequence numbers do not tell.
func (o *rtpOrder) flush() {
	for o.waiting > 0 {
		slot := o.earliest()
		slot.used = false
		o.waiting--
		if o.emit(slot.seq, slot.at, slot.samples) != nil {
			break
		}
	}
	for i := range o.slots {
		o.slots[i].used = false
	}
	o.waiting, o.held, o.outage = 0, false, true
}

// emit hands on a packet after what is missing before it.
func (o *rtpOrder) emit(seq uint16, at uint64, samples []byte) error {
	gap := int64(at - o.at)
	if gap < 0 {
		return errRTPRestarted
	}
	n := uint64(len(samples) / o.width)
	o.longest = max(o.longest, n)
	if gap > 0 {
		network := min(uint64(seq-o.next)*o.longest, uint64(gap))
		if o.outage {
			network = uint64(gap)
		}
		o.sink.missing(network, lostNetwork)
		o.sink.missing(uint64(gap)-network, lostMuted)
	}
	o.next, o.at, o.stale, o.outage = seq+1, at+n, 0, false
	if o.marked && o.mark < at+n {
		before := uint64(max(0, int64(o.mark-at)))
		o.sink.samples(at, samples[:before*uint64(o.width)])
		o.marked = false
		o.sink.marked()
		at, samples = at+before, samples[before*uint64(o.width):]
	}
	o.sink.samples(at, samples)
	return nil
}

// tellAt has the sink told before the sample with a timestamp, or before the next one where that has passed.
func (o *rtpOrder) tellAt(at uint64) {
	o.marked, o.mark = true, at
}

// hold keeps everything back until release.
func (o *rtpOrder) hold() { o.held = true }

func (o *rtpOrder) release(now time.Time) error {
	o.held = false
	return o.drain(now)
}
