package protocol

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"
)

// What no station can mean. The limits are wide on purpose: a refused record is kept, but it is in no table.
const (
	maxHz      = 1e12 // on either side of 0: where the centre is unknown frequencies are offsets
	maxSeconds = 1e10
	maxDB      = 1000
	maxLevel   = 1e9 // of a sample, full scale 1: float recordings may exceed it
	maxCount   = math.MaxInt64
	maxIndex   = math.MaxInt32
)

// earliest is the start of the year 2000: no record can be older.
var earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// Validate refuses a record that a collector cannot accept: without identity or time, with a time before 2000 or more
// than five minutes after now, with numbers that are not finite or that no station can mean, with text that is not
// clean UTF-8, or beyond a limit. The error is an *Error naming the first fault.
func Validate(rec *Record, now time.Time) error {
	if rec == nil {
		return refuse(CodeMalformed, "", nil, "no record")
	}
	c := new(checker)
	c.identity(rec)
	c.recordTime(rec.Time, now)
	c.text("receiver", rec.Receiver, MaxTextBytes)
	c.text("step", rec.Step, MaxTextBytes)
	checkEnum(c, "time_quality", rec.TimeQuality)
	checkNumber(c, "time_uncertainty_s", rec.TimeUncertaintyS, 0, maxSeconds)
	c.body(rec)
	if c.err == nil && mayBeLarge(rec) && proto.Size(rec) > MaxMessageBytes {
		c.refuse(CodeTooLarge, "", nil, "%d bytes, at most %d in one record", proto.Size(rec), MaxMessageBytes)
	}
	return c.result()
}

// mayBeLarge tells whether a record can be too large although each of its fields is within its limit.
func mayBeLarge(rec *Record) bool {
	_, small := rec.GetBody().(*Record_Measurement)
	return !small || len(rec.ProtoReflect().GetUnknown()) > 0 || len(rec.GetMeasurement().ProtoReflect().GetUnknown()) > 0
}

// ValidateAck refuses an acknowledgement that an agent must not follow. The error is an *Error.
func ValidateAck(ack *Ack) error {
	if ack == nil {
		return refuse(CodeMalformed, "", nil, "no acknowledgement")
	}
	c := new(checker)
	c.spool(ack.Spool)
	c.ranges("settled", ack.Settled, MaxAckRanges)
	if ack.Conflict != nil {
		c.ranges("conflict", []*SeqRange{ack.Conflict}, 1)
	}
	checkCount(c, "rejected_count", ack.RejectedCount, maxCount)
	c.ranges("rejected", ack.Rejected, MaxAckRanges)
	c.text("collector", ack.Collector, MaxTextBytes)
	return c.result()
}

// ValidateCommand refuses an order that an agent cannot follow. Whether it has expired, and whether the station
// allows it, is for the agent to say. The error is an *Error.
func ValidateCommand(cmd *Command) error {
	if cmd == nil {
		return refuse(CodeMalformed, "", nil, "no command")
	}
	c := new(checker)
	c.id("id", cmd.Id, true)
	c.timestamp("issued", cmd.Issued)
	c.timestamp("expires", cmd.Expires)
	if c.err == nil && cmd.Expires == nil {
		c.refuse(CodeMalformed, "expires", nil, "missing: an order needs an absolute expiry")
	}
	switch o := cmd.GetOrder().(type) {
	case *Command_Capture:
		c.within("capture", o.Capture != nil, func() { c.capture(o.Capture) })
	case *Command_Tune:
		c.within("tune", o.Tune != nil, func() { c.tune(o.Tune) })
	case *Command_Cancel:
		c.within("cancel", o.Cancel != nil, func() { c.id("id", o.Cancel.Id, true) })
	case *Command_Resend:
		c.within("resend", o.Resend != nil, func() {
			c.spool(o.Resend.Spool)
			c.ranges("ranges", o.Resend.Ranges, MaxAckRanges)
		})
	default:
		c.refuse(CodeUnknownKind, "", nil, "an order that this version does not know")
	}
	return c.result()
}

// identity checks what names a record.
func (c *checker) identity(rec *Record) {
	if err := ValidStation(rec.GetStation()); err != nil && c.err == nil {
		c.err = asError(err)
	}
	c.spool(rec.Spool)
	switch {
	case rec.Seq == nil || rec.GetSeq() == 0:
		c.refuse(CodeMalformed, "seq", nil, "missing: numbers begin at 1")
	case rec.GetSeq() > MaxSeq:
		c.refuse(CodeOutOfRange, "seq", rec.GetSeq(), "at most %d", uint64(MaxSeq))
	}
}

// recordTime checks the time that rows are filed under.
func (c *checker) recordTime(ns *int64, now time.Time) {
	switch {
	case ns == nil:
		c.refuse(CodeMalformed, "time", nil, "missing: send the time of the first sample")
	case *ns < earliest:
		c.refuse(CodeAbsurdTime, "time", formatTime(*ns), "before 2000: set the clock")
	case now.Add(MaxTimeAheadS*time.Second).UnixNano() < *ns:
		c.refuse(CodeAbsurdTime, "time", formatTime(*ns), "more than %d s ahead of %s: set the clock",
			MaxTimeAheadS, formatTime(now.UnixNano()))
	}
}

// body checks what a record holds.
func (c *checker) body(rec *Record) {
	in := string(rec.Kind())
	switch b := rec.GetBody().(type) {
	case *Record_Measurement:
		c.within(in, b.Measurement != nil, func() { c.measurement(b.Measurement) })
	case *Record_Spectrum:
		c.within(in, b.Spectrum != nil, func() { c.spectrum(b.Spectrum) })
	case *Record_Detection:
		c.within(in, b.Detection != nil, func() { c.detection(b.Detection) })
	case *Record_Health:
		c.within(in, b.Health != nil, func() { c.health(b.Health) })
	case *Record_Gap:
		c.within(in, b.Gap != nil, func() { c.gap(b.Gap) })
	case *Record_Iq:
		c.within(in, b.Iq != nil, func() { c.chunk(b.Iq) })
	case *Record_Reply:
		c.within(in, b.Reply != nil, func() { c.reply(b.Reply) })
	case *Record_Site:
		c.within(in, b.Site != nil, func() { c.site(b.Site) })
	default:
		c.refuse(CodeUnknownKind, "", nil, "a kind of record that this version does not know")
	}
}
