package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	maxInfoBytes  = 64 << 10
	maxStateBytes = 8 << 10  // the contract says under 1 KiB; a station with many steps is not refused for it
	keptBytes     = 64 << 10 // of a refused payload
	lateAfter     = time.Minute
	// highestSeq is what no station's numbers reach: at 20,000 records a second a spool gets there in 55 years. What claims a
	// higher one would have everything below it missing.
	highestSeq = 1 << 45
)

// open adds what a message holds to a batch.
func (g *Ingest) open(m item, b *batch) {
	switch m.topic.Class {
	case protocol.TopicRecord, protocol.TopicBatch:
		g.openRecords(m, b)
	case protocol.TopicStatus, protocol.TopicInfo, protocol.TopicState:
		g.inbox.charge(m.topic.Station, 1, m.at)
		if err := g.openCondition(m); err != nil {
			g.refuseBytes(m, "", m.Payload, err, b)
		}
	case protocol.TopicUnknown, protocol.TopicAck, protocol.TopicCommand, protocol.TopicJSON, protocol.TopicCollectorStatus:
		// Ours, or nobody's: whoever wired this subscribed too much. There is nothing to keep.
	}
	if m.Ack != nil {
		b.acks = append(b.acks, m.Ack)
	}
}

func (g *Ingest) openRecords(m item, b *batch) {
	if g.unread(m, g.cfg.Now()) { // suspended since it came
		return
	}
	if len(m.Payload) > g.cfg.Limits.MessageBytes {
		g.inbox.charge(m.topic.Station, 1, m.at)
		g.refuseBytes(m, m.topic.Kind, m.Payload, tooLarge(len(m.Payload), g.cfg.Limits.MessageBytes), b)
		return
	}
	var records []*protocol.Record
	var err error
	if m.topic.Class == protocol.TopicBatch {
		records, err = protocol.DecodeBatch(m.Payload)
	} else {
		var rec *protocol.Record
		if rec, err = protocol.Decode(m.Payload); err == nil {
			records = []*protocol.Record{rec}
		}
	}
	g.inbox.charge(m.topic.Station, max(1, len(records)), m.at)
	if partly, ok := errors.AsType[*protocol.BatchError](err); ok {
		for _, bad := range partly.Bad {
			g.refuseBytes(m, "", bad.Payload, bad.Err, b)
		}
	} else if err != nil {
		g.refuseBytes(m, m.topic.Kind, m.Payload, err, b)
		return
	}
	for _, rec := range records {
		g.accept(m, rec, b)
	}
}

// accept adds a decoded record to the batch, or refuses it. The spools that it speaks of are known first: each one costs a row,
// and an Ack that the broker retains.
func (g *Ingest) accept(m item, rec *protocol.Record, b *batch) {
	for _, spool := range [][]byte{rec.GetSpool(), rec.GetGap().GetSpool()} {
		if len(spool) == protocol.SpoolBytes && !g.inbox.keepSpool(m.topic.Station, [protocol.SpoolBytes]byte(spool), m.at) {
			g.refuseBytes(m, rec.Kind(), alone(m, rec), &protocol.Error{
				Code: protocol.CodeTooMany, Field: "spool", Value: fmt.Sprintf("%x", spool),
				Message: fmt.Sprintf("a station may begin %d spools a day", spoolsADay),
			}, b)
			return
		}
	}
	if rec.Station == nil {
		rec.Station = new(m.topic.Station) // not a pointer into m, which would keep the whole message
	}
	err := protocol.Validate(rec, m.at)
	if err == nil {
		err = beyond(rec)
	}
	switch {
	case rec.GetStation() != m.topic.Station:
		// First of all: nothing that this record says may touch the station it names.
		err = &protocol.Error{
			Code: protocol.CodeWrongStation, Field: "station", Value: fmt.Sprintf("%.64q", rec.GetStation()),
			Message: fmt.Sprintf("sent on a topic of %s: a station sends its own records only", m.topic.Station),
		}
	case err != nil:
	case m.topic.Class == protocol.TopicRecord && rec.Kind() != m.topic.Kind:
		err = &protocol.Error{
			Code: protocol.CodeMalformed, Field: "body", Value: string(rec.Kind()),
			Message: fmt.Sprintf("sent on the topic of %s: send each kind on its own", m.topic.Kind),
		}
	}
	if err != nil {
		g.refuse(m, rec, err, b)
		return
	}
	size := len(m.Payload)
	if m.topic.Class == protocol.TopicBatch {
		size = approximateBytes(rec)
	}
	late := m.at.Sub(time.Unix(0, rec.GetTime())) > lateAfter
	b.add(rec, late, size)
}

// beyond refuses a record that speaks of numbers which no station can have given. A gap may go on to the end of all numbers: its
// station does not know how far they went.
func beyond(rec *protocol.Record) error {
	field, highest := "seq", rec.GetSeq()
	if health := rec.GetHealth(); health != nil {
		if last := health.GetLastSeq(); last > highest {
			field, highest = "health.last_seq", last
		}
		if last := protocol.RangesOf(health.Unacked).Last(); last > highest {
			field, highest = "health.unacked", last
		}
	}
	for _, r := range rec.GetGap().GetRanges() {
		last := r.GetTo()
		if last == protocol.MaxSeq {
			last = r.GetFrom()
		}
		if last > highest {
			field, highest = "gap.ranges", last
		}
	}
	if highest <= highestSeq {
		return nil
	}
	return &protocol.Error{
		Code: protocol.CodeOutOfRange, Field: field, Value: fmt.Sprint(highest),
		Message: fmt.Sprintf("at most %d: no spool has given that many numbers", uint64(highestSeq)),
	}
}

// approximateBytes is what a record out of a batch weighs in a commit: exact where it is heavy.
func approximateBytes(rec *protocol.Record) int {
	const small = 200
	return small + len(rec.GetIq().GetData()) + len(rec.GetSpectrum().GetLevels())
}

// alone is the record's own part of the message.
func alone(m item, rec *protocol.Record) []byte {
	if m.topic.Class == protocol.TopicBatch {
		return encoded(rec)
	}
	return m.Payload
}

// refuse keeps a decoded record as a rejection. With its number, where it has one that a station can mean, it is settled by it.
func (g *Ingest) refuse(m item, rec *protocol.Record, err error, b *batch) {
	payload := alone(m, rec)
	seq := rec.GetSeq()
	if len(rec.GetSpool()) != protocol.SpoolBytes || seq == 0 || seq > highestSeq {
		g.refuseBytes(m, rec.Kind(), payload, err, b)
		return
	}
	g.rejected(m.topic.Station, m.Topic, err)
	b.reject(protocol.Rejection{
		Station: m.topic.Station, Spool: slices.Clone(rec.GetSpool()), Seq: seq, Kind: rec.Kind(), Time: rec.GetTime(),
		Reason: reason(err), Payload: cut(payload),
	})
}

// refuseBytes keeps what has no number, as far as the station's share of the day goes.
func (g *Ingest) refuseBytes(m item, kind protocol.Kind, payload []byte, err error, b *batch) {
	g.rejected(m.topic.Station, m.Topic, err)
	if g.warden.holds(m.topic.Station, m.at) || !g.inbox.keepGarbage(m.topic.Station, m.at) {
		g.counts.excess.Add(1)
		return
	}
	b.reject(protocol.Rejection{Station: m.topic.Station, Kind: kind, Reason: reason(err), Payload: cut(payload)})
}

// openCondition reads what a station says of itself, and has it saved. An empty payload takes back what was retained, as
// a station does that leaves.
func (g *Ingest) openCondition(m item) error {
	station := m.topic.Station
	gone := len(m.Payload) == 0
	switch {
	case m.topic.Class == protocol.TopicStatus:
		return g.openStatus(m, gone)
	case m.topic.Class == protocol.TopicInfo && gone:
		g.saves.put(saveInfo(station, nil, m.at))
	case m.topic.Class == protocol.TopicInfo:
		info := new(protocol.Info)
		if err := readJSON(m.Payload, maxInfoBytes, info); err != nil {
			return err
		}
		if info.Station != station {
			return &protocol.Error{
				Code: protocol.CodeWrongStation, Field: "station", Value: fmt.Sprintf("%.64q", info.Station),
				Message: "sent on a topic of " + station + ": a station describes itself only",
			}
		}
		g.saves.put(saveInfo(station, info, m.at))
	case gone:
		g.saves.put(saveState(station, nil, m.at))
	default:
		state := new(protocol.State)
		if err := readJSON(m.Payload, maxStateBytes, state); err != nil {
			return err
		}
		g.saves.put(saveState(station, state, m.at))
	}
	return nil
}

func (g *Ingest) openStatus(m item, gone bool) error {
	status := string(m.Payload)
	if status != protocol.Online && status != protocol.Offline && !gone {
		return &protocol.Error{
			Code: protocol.CodeMalformed, Field: "status", Value: fmt.Sprintf("%.64q", status),
			Message: "send " + protocol.Online + " or " + protocol.Offline,
		}
	}
	g.saves.put(saveStatus(m.topic.Station, status == protocol.Online, m.at))
	return nil
}

func readJSON(payload []byte, limit int, into any) error {
	if len(payload) > limit {
		return tooLarge(len(payload), limit)
	}
	if protocol.JSONHoldsNUL(payload) {
		return &protocol.Error{Code: protocol.CodeInvalidText, Message: "a text holds a NUL character"}
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return &protocol.Error{Code: protocol.CodeMalformed, Message: "not the JSON agreed: " + err.Error()}
	}
	return nil
}

func tooLarge(size, limit int) error {
	return &protocol.Error{Code: protocol.CodeTooLarge, Message: fmt.Sprintf("%d bytes, at most %d in one message", size, limit)}
}

// reason is what the table of rejections shows: the code for machines, then the sentence.
func reason(err error) string {
	return string(codeOf(err)) + ": " + err.Error()
}

func cut(payload []byte) []byte { return payload[:min(len(payload), keptBytes)] }

// encoded is a record's bytes; nil when it cannot be encoded, which no decoded record is.
func encoded(rec *protocol.Record) []byte {
	b, err := protocol.Encode(rec)
	if err != nil {
		return nil
	}
	return b
}
