package protocol

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// What a record says twice is written once: a measurement comes each second for years. Encode leaves out what follows from
// the other fields, and Decode puts it back, so that no reader of a Record sees a difference.

const fieldRecordStation protowire.Number = 1

// derivedDuration is how long a measurement lasted by its count of samples; NaN when that is not known.
func (m *Measurement) derivedDuration() float64 {
	if m.Samples == nil || m.LostSamples == nil || m.SampleRateHz == nil {
		return math.NaN()
	}
	return (float64(*m.Samples) + float64(*m.LostSamples)) / *m.SampleRateHz
}

// derivedHigh is the upper end of the occupied bandwidth by its lower one; NaN when that is not known.
func (m *Measurement) derivedHigh() float64 {
	if m.OccupiedLowHz == nil || m.OccupiedBandwidthHz == nil {
		return math.NaN()
	}
	return *m.OccupiedLowHz + *m.OccupiedBandwidthHz
}

// brief is the message as it is encoded: a copy where something is left out.
func brief(message proto.Message) proto.Message {
	rec, ok := message.(*Record)
	m := rec.GetMeasurement()
	if !ok || m == nil {
		return message
	}
	duration := m.DurationS != nil && *m.DurationS == m.derivedDuration()
	high := m.OccupiedHighHz != nil && *m.OccupiedHighHz == m.derivedHigh()
	if !duration && !high {
		return message
	}
	rec = proto.CloneOf(rec)
	m = rec.GetMeasurement()
	if duration {
		m.DurationS = nil
	}
	if high {
		m.OccupiedHighHz = nil
	}
	return rec
}

// complete puts back what brief left out.
func (m *Measurement) complete() {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	if v := m.derivedDuration(); m.DurationS == nil && finite(v) {
		m.DurationS = &v
	}
	if v := m.derivedHigh(); m.OccupiedHighHz == nil && finite(v) {
		m.OccupiedHighHz = &v
	}
}

// WithoutStation is an encoded record without the station's name at its front, which the topic of a message says, too. A
// record that does not begin with this name is given back as it is.
func WithoutStation(record []byte, station string) []byte {
	name := protowire.AppendString(protowire.AppendTag(nil, fieldRecordStation, protowire.BytesType), station)
	if len(record) > len(name) && string(record[:len(name)]) == string(name) {
		return record[len(name):]
	}
	return record
}
