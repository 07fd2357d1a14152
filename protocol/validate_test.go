package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulgidus/heimdall/protocol"
)

func TestValidate_AcceptsEmptyBodies(t *testing.T) {
	// Every scalar is optional, so a body that needs nothing may be empty.
	for _, body := range []any{&protocol.Measurement{}, &protocol.Detection{}, &protocol.Health{}, &protocol.Gap{}} {
		if err := protocol.Validate(record(body), now); err != nil {
			t.Errorf("%T: %v", body, err)
		}
	}
}

func TestValidate_AcceptsTimesUpToFiveMinutesAhead(t *testing.T) {
	for _, c := range []struct {
		time time.Time
		want protocol.Code
	}{
		{now.Add(5 * time.Minute), ""},
		{now.Add(5*time.Minute + 1), protocol.CodeAbsurdTime},
		{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), ""},
		{time.Date(1999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), protocol.CodeAbsurdTime},
		{time.Date(2017, 11, 27, 10, 41, 56, 0, time.UTC), ""}, // recorded data is never too old
	} {
		rec := record(site())
		rec.Time = ns(c.time)
		if err := protocol.Validate(rec, now); code(err) != c.want {
			t.Errorf("%v: got %v, want code %q", c.time, err, c.want)
		}
	}
}

// change is a way to spoil a valid message, and the refusal it must meet.
type change struct {
	field string
	code  protocol.Code
	spoil func(*protocol.Record)
}

func TestValidate_RefusesNamingField(t *testing.T) {
	long := strings.Repeat("x", 2000)
	changes := []change{
		{"station", protocol.CodeMalformed, func(r *protocol.Record) { r.Station = nil }},
		{"station", protocol.CodeMalformed, func(r *protocol.Record) { r.Station = new("../etc") }},
		{"spool", protocol.CodeMalformed, func(r *protocol.Record) { r.Spool = nil }},
		{"spool", protocol.CodeMalformed, func(r *protocol.Record) { r.Spool = r.Spool[:7] }},
		{"seq", protocol.CodeMalformed, func(r *protocol.Record) { r.Seq = nil }},
		{"seq", protocol.CodeMalformed, func(r *protocol.Record) { r.Seq = new(uint64(0)) }},
		{"seq", protocol.CodeOutOfRange, func(r *protocol.Record) { r.Seq = new(uint64(protocol.MaxSeq + 1)) }},
		{"time", protocol.CodeMalformed, func(r *protocol.Record) { r.Time = nil }},
		{"time", protocol.CodeAbsurdTime, func(r *protocol.Record) { r.Time = new(int64(0)) }},
		{"receiver", protocol.CodeTooLarge, func(r *protocol.Record) { r.Receiver = &long }},
		{"step", protocol.CodeInvalidText, func(r *protocol.Record) { r.Step = new("a\x00b") }},
		{"step", protocol.CodeInvalidText, func(r *protocol.Record) { r.Step = new("a\x1b[2J") }},
		{"step", protocol.CodeInvalidText, func(r *protocol.Record) { r.Step = new("a\u009b2J") }},
		{"step", protocol.CodeInvalidText, func(r *protocol.Record) { r.Step = new("\xff") }},
		{"time_quality", protocol.CodeOutOfRange, func(r *protocol.Record) { r.TimeQuality = protocol.TimeQuality(-1).Enum() }},
		{"time_uncertainty_s", protocol.CodeNotFinite, func(r *protocol.Record) { r.TimeUncertaintyS = &nan }},
		{"time_uncertainty_s", protocol.CodeOutOfRange, func(r *protocol.Record) { r.TimeUncertaintyS = new(-1.0) }},
		{"", protocol.CodeUnknownKind, func(r *protocol.Record) { r.Body = nil }},
		{"measurement", protocol.CodeMalformed, func(r *protocol.Record) { r.Body = &protocol.Record_Measurement{} }},
		{"measurement.snr_db", protocol.CodeNotFinite, inMeasurement(func(m *protocol.Measurement) { m.SnrDb = new(float32(nan)) })},
		{"measurement.peak_hz", protocol.CodeNotFinite, inMeasurement(func(m *protocol.Measurement) { m.PeakHz = &inf })},
		{"measurement.sample_rate_hz", protocol.CodeOutOfRange, inMeasurement(func(m *protocol.Measurement) { m.SampleRateHz = new(0.0) })},
		{"measurement.samples", protocol.CodeOutOfRange, inMeasurement(func(m *protocol.Measurement) { m.Samples = new(uint64(1 << 63)) })},
		{"measurement.clipped_fraction", protocol.CodeOutOfRange, inMeasurement(func(m *protocol.Measurement) { m.ClippedFraction = new(float32(1.01)) })},
		{"measurement.occupied_low_hz", protocol.CodeOutOfRange, inMeasurement(func(m *protocol.Measurement) { m.OccupiedLowHz = new(2e8) })},
		{"measurement.flags", protocol.CodeTooMany, inMeasurement(func(m *protocol.Measurement) { m.Flags = make([]protocol.Flag, 65) })},
		{"measurement.flags", protocol.CodeOutOfRange, inMeasurement(func(m *protocol.Measurement) { m.Flags = []protocol.Flag{-1} })},
		{"spectrum.step_hz", protocol.CodeOutOfRange, func(r *protocol.Record) {
			r.Body = record(&protocol.Spectrum{StepHz: new(-1.0)}).Body
		}},
		{"detection.detection_id", protocol.CodeMalformed, func(r *protocol.Record) {
			r.Body = record(&protocol.Detection{DetectionId: new("a/b")}).Body
		}},
		{"detection.low_hz", protocol.CodeOutOfRange, func(r *protocol.Record) {
			r.Body = record(&protocol.Detection{LowHz: new(2.0), HighHz: new(1.0)}).Body
		}},
		{"health.unacked", protocol.CodeTooMany, inHealth(func(h *protocol.Health) { h.Unacked = make([]*protocol.SeqRange, 65) })},
		{"health.unacked", protocol.CodeMalformed, inHealth(func(h *protocol.Health) { h.Unacked = []*protocol.SeqRange{nil} })},
		{"health.unacked", protocol.CodeMalformed, inHealth(func(h *protocol.Health) {
			h.Unacked = []*protocol.SeqRange{{From: new(uint64(5)), To: new(uint64(4))}}
		})},
		{"health.unacked", protocol.CodeOutOfRange, inHealth(func(h *protocol.Health) {
			h.Unacked = []*protocol.SeqRange{{From: new(uint64(5)), To: new(uint64(protocol.MaxSeq + 1))}}
		})},
		{"health.now", protocol.CodeAbsurdTime, inHealth(func(h *protocol.Health) { h.Now = new(int64(-1)) })},
		{"health.receivers", protocol.CodeTooMany, inHealth(func(h *protocol.Health) { h.Receivers = make([]*protocol.ReceiverHealth, 5000) })},
		{"health.receivers[0]", protocol.CodeMalformed, inHealth(func(h *protocol.Health) { h.Receivers[0] = nil })},
		{"health.receivers[1].error", protocol.CodeTooLarge, inHealth(func(h *protocol.Health) { h.Receivers[1].Error = &long })},
		{"health.receivers[0].lost[0].samples", protocol.CodeOutOfRange, inHealth(func(h *protocol.Health) {
			h.Receivers[0].Lost[0].Samples = new(uint64(1 << 63))
		})},
		{"health.clock.uncertainty_s", protocol.CodeNotFinite, inHealth(func(h *protocol.Health) { h.Clock.UncertaintyS = &inf })},
		{"gap.spool", protocol.CodeMalformed, inGap(func(g *protocol.Gap) { g.Spool = []byte{1} })},
		{"gap.ranges", protocol.CodeMalformed, inGap(func(g *protocol.Gap) { g.Ranges[0].From = new(uint64(0)) })},
		{"gap.reason", protocol.CodeOutOfRange, inGap(func(g *protocol.Gap) { g.Reason = protocol.Gap_Reason(-5).Enum() })},
		{"iq.capture_id", protocol.CodeMalformed, inChunk(func(c *protocol.IqChunk) { c.CaptureId = nil })},
		{"iq.capture_id", protocol.CodeMalformed, inChunk(func(c *protocol.IqChunk) { c.CaptureId = new("..") })},
		{"iq.capture_id", protocol.CodeMalformed, inChunk(func(c *protocol.IqChunk) { c.CaptureId = new("") })},
		{"iq.index", protocol.CodeMalformed, inChunk(func(c *protocol.IqChunk) { c.Index = nil })},
		{"iq.data", protocol.CodeMalformed, inChunk(func(c *protocol.IqChunk) { c.Data = nil })},
		{"iq.data", protocol.CodeTooLarge, inChunk(func(c *protocol.IqChunk) { c.Data = make([]byte, protocol.MaxChunkBytes+1) })},
		{"reply.command_id", protocol.CodeMalformed, inReply(func(r *protocol.Reply) { r.CommandId = nil })},
		{"reply.state", protocol.CodeMalformed, inReply(func(r *protocol.Reply) { r.State = nil })},
		{"reply.message", protocol.CodeInvalidText, inReply(func(r *protocol.Reply) { r.Message = new("\x00") })},
		{"reply.progress", protocol.CodeOutOfRange, inReply(func(r *protocol.Reply) { r.Progress = new(1.5) })},
		{"reply.capture.id", protocol.CodeMalformed, inReply(func(r *protocol.Reply) { r.Capture.Id = new(long) })},
		{"reply.capture.format", protocol.CodeMalformed, inReply(func(r *protocol.Reply) { r.Capture.Format = new("cu16") })},
		{"reply.capture.sha512", protocol.CodeMalformed, inReply(func(r *protocol.Reply) { r.Capture.Sha512 = []byte{1} })},
		{"reply.capture.gaps", protocol.CodeTooMany, inReply(func(r *protocol.Reply) { r.Capture.Gaps = make([]*protocol.CaptureGap, 5000) })},
		{"reply.capture.gaps[0].lost", protocol.CodeOutOfRange, inReply(func(r *protocol.Reply) { r.Capture.Gaps[0].Lost = new(uint64(1 << 63)) })},
		{"reply.capture.tuning.gain_db", protocol.CodeOutOfRange, inReply(func(r *protocol.Reply) { r.Capture.Tuning.GainDb = new(1e9) })},
		{"reply.capture.measurement.snr_db", protocol.CodeNotFinite, inReply(func(r *protocol.Reply) {
			r.Capture.Measurement.SnrDb = new(float32(inf))
		})},
		{"site.latitude_deg", protocol.CodeMalformed, inSite(func(s *protocol.Site) { s.LatitudeDeg = nil })},
		{"site.latitude_deg", protocol.CodeOutOfRange, inSite(func(s *protocol.Site) { s.LatitudeDeg = new(91.0) })},
		{"site.longitude_deg", protocol.CodeOutOfRange, inSite(func(s *protocol.Site) { s.LongitudeDeg = new(-181.0) })},
	}
	for i, c := range changes {
		t.Run(fmt.Sprintf("%d %s %s", i, c.field, c.code), func(t *testing.T) {
			rec := record(measurement())
			c.spoil(rec)
			checkError(t, c.field, protocol.Validate(rec, now), protocol.Error{Code: c.code, Field: c.field})
		})
	}
	if err := protocol.Validate(nil, now); code(err) != protocol.CodeMalformed {
		t.Errorf("no record: %v", err)
	}
}

func inMeasurement(spoil func(*protocol.Measurement)) func(*protocol.Record) {
	return func(r *protocol.Record) { spoil(r.GetMeasurement()) }
}

func inHealth(spoil func(*protocol.Health)) func(*protocol.Record) {
	return func(r *protocol.Record) { r.Body = record(health()).Body; spoil(r.GetHealth()) }
}

func inGap(spoil func(*protocol.Gap)) func(*protocol.Record) {
	return func(r *protocol.Record) { r.Body = record(gap()).Body; spoil(r.GetGap()) }
}

func inChunk(spoil func(*protocol.IqChunk)) func(*protocol.Record) {
	return func(r *protocol.Record) { r.Body = record(chunk()).Body; spoil(r.GetIq()) }
}

func inReply(spoil func(*protocol.Reply)) func(*protocol.Record) {
	return func(r *protocol.Record) { r.Body = record(reply()).Body; spoil(r.GetReply()) }
}

func inSite(spoil func(*protocol.Site)) func(*protocol.Record) {
	return func(r *protocol.Record) { r.Body = record(site()).Body; spoil(r.GetSite()) }
}

// Every floating-point field of every message is checked: none lets NaN or an infinity through.
func TestValidate_EveryNumberMustBeFinite(t *testing.T) {
	checked := 0
	for name, m := range golden(t) {
		eachFloat(m.ProtoReflect(), func(path string, owner protoreflect.Message, fd protoreflect.FieldDescriptor) {
			before := owner.Get(fd)
			for _, bad := range []float64{nan, inf, -inf, 1e30} {
				if fd.Kind() == protoreflect.FloatKind {
					owner.Set(fd, protoreflect.ValueOfFloat32(float32(bad)))
				} else {
					owner.Set(fd, protoreflect.ValueOfFloat64(bad))
				}
				if err := validate(m); code(err) != protocol.CodeNotFinite && code(err) != protocol.CodeOutOfRange {
					t.Errorf("%s: %s = %v: got %v, want a refusal", name, path, bad, err)
				}
				checked++
			}
			owner.Set(fd, before)
		})
	}
	if checked < 200 {
		t.Errorf("only %d values tried: the golden messages have more fields than that", checked)
	}
}

// eachFloat visits every floating-point field that is present.
func eachFloat(m protoreflect.Message, visit func(string, protoreflect.Message, protoreflect.FieldDescriptor)) {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, fd)
		return true
	})
	for _, fd := range fields {
		switch {
		case fd.Kind() == protoreflect.FloatKind || fd.Kind() == protoreflect.DoubleKind:
			visit(string(fd.FullName()), m, fd)
		case fd.IsList() && fd.Message() != nil:
			for i := range m.Get(fd).List().Len() {
				eachFloat(m.Get(fd).List().Get(i).Message(), visit)
			}
		case fd.Message() != nil:
			eachFloat(m.Get(fd).Message(), visit)
		}
	}
}

func TestValidate_RefusesTooManyBytes(t *testing.T) {
	rec := record(chunk())
	rec.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), make([]byte, protocol.MaxMessageBytes)))
	checkError(t, "unknown fields", protocol.Validate(rec, now), protocol.Error{Code: protocol.CodeTooLarge})
}

func TestValidateAck_RefusesNamingField(t *testing.T) {
	for field, spoil := range map[string]func(*protocol.Ack){
		"spool":          func(a *protocol.Ack) { a.Spool = nil },
		"settled":        func(a *protocol.Ack) { a.Settled = make([]*protocol.SeqRange, 513) },
		"conflict":       func(a *protocol.Ack) { a.Conflict = &protocol.SeqRange{} },
		"rejected_count": func(a *protocol.Ack) { a.RejectedCount = new(uint64(1 << 63)) },
		"rejected":       func(a *protocol.Ack) { a.Rejected[0].To = nil },
		"collector":      func(a *protocol.Ack) { a.Collector = new("\n") },
	} {
		ack := proto.CloneOf(golden(t)["ack"].(*protocol.Ack))
		spoil(ack)
		var e *protocol.Error
		if err := protocol.ValidateAck(ack); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := protocol.ValidateAck(nil); code(err) != protocol.CodeMalformed {
		t.Errorf("no acknowledgement: %v", err)
	}
}

func TestValidateCommand_RefusesNamingField(t *testing.T) {
	type spoil func(*protocol.Command)
	capture := func(f func(*protocol.Capture)) spoil {
		return func(c *protocol.Command) { f(c.GetCapture()) }
	}
	order := func(o *protocol.Command) spoil {
		return func(c *protocol.Command) { c.Order = o.Order }
	}
	for i, c := range []struct {
		field string
		code  protocol.Code
		spoil spoil
	}{
		{"id", protocol.CodeMalformed, func(c *protocol.Command) { c.Id = nil }},
		{"id", protocol.CodeMalformed, func(c *protocol.Command) { c.Id = new("-x") }},
		{"issued", protocol.CodeAbsurdTime, func(c *protocol.Command) { c.Issued = new(int64(-1)) }},
		{"expires", protocol.CodeMalformed, func(c *protocol.Command) { c.Expires = nil }},
		{"", protocol.CodeUnknownKind, func(c *protocol.Command) { c.Order = nil }},
		{"capture", protocol.CodeMalformed, order(&protocol.Command{Order: &protocol.Command_Capture{}})},
		{"capture.duration_s", protocol.CodeMalformed, capture(func(c *protocol.Capture) { c.DurationS = nil })},
		{"capture.duration_s", protocol.CodeOutOfRange, capture(func(c *protocol.Capture) { c.DurationS = new(0.0) })},
		{"capture.center_hz", protocol.CodeMalformed, capture(func(c *protocol.Capture) { c.CenterHz = nil })},
		{"capture.bandwidth_hz", protocol.CodeOutOfRange, capture(func(c *protocol.Capture) { c.BandwidthHz = new(-1.0) })},
		{"capture.acquisition", protocol.CodeMalformed, capture(func(c *protocol.Capture) { c.Acquisition = new("a b") })},
		{"tune.center_hz", protocol.CodeMalformed, order(&protocol.Command{Order: &protocol.Command_Tune{Tune: &protocol.Tune{}}})},
		{"cancel.id", protocol.CodeMalformed, order(&protocol.Command{Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{}}})},
		{"resend.spool", protocol.CodeMalformed, order(&protocol.Command{Order: &protocol.Command_Resend{Resend: &protocol.Resend{}}})},
	} {
		cmd := proto.CloneOf(golden(t)["command-capture"].(*protocol.Command))
		c.spoil(cmd)
		checkError(t, fmt.Sprint(i, c.field), protocol.ValidateCommand(cmd), protocol.Error{Code: c.code, Field: c.field})
	}
	if err := protocol.ValidateCommand(nil); code(err) != protocol.CodeMalformed {
		t.Errorf("no command: %v", err)
	}
}

func TestError_SaysFieldValueAndMend(t *testing.T) {
	rec := record(site())
	rec.Step = new(strings.Repeat("é", 200))
	got := protocol.Validate(rec, now).Error()
	want := `step: "` + strings.Repeat("é", 30) + `"… (400 bytes): at most 256 bytes`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	rec.Step = new("a" + strings.Repeat("é", 200)) // the cut falls inside a letter
	if got := protocol.Validate(rec, now).Error(); !strings.Contains(got, `"a`+strings.Repeat("é", 29)+`"…`) {
		t.Errorf("got %s", got)
	}
	if code := protocol.CodeOf(errors.New("another")); code != protocol.CodeMalformed {
		t.Errorf("code of another error: %q", code)
	}
	faults := protocol.FieldErrors{{Field: "a", Value: "1", Message: "no"}, {Field: "b", Value: "2", Message: "nor this"}}
	if got, want := faults.Error(), "a: 1: no; b: 2: nor this"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (protocol.FieldError{Field: "a", Message: "is missing"}).Error(), "a: is missing"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (&protocol.BatchError{}).Error(), "batch"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if bytes.ContainsAny([]byte((&protocol.Error{Message: "m"}).Error()), ":") {
		t.Error("an error of the whole message begins with a colon")
	}
}

func TestCleanText_IsAlwaysAccepted(t *testing.T) {
	for in, want := range map[string]string{
		"RTL2838UHIDIR\x00\x00":        "RTL2838UHIDIR",
		"a\tb\r\nc\x7f":                "a b  c",
		"a\u009b31m":                   "a 31m",
		"broken \xff byte":             "broken \ufffd byte",
		"ééé":                          "ééé",
		strings.Repeat("é", 200):       strings.Repeat("é", 128),
		"x" + strings.Repeat("é", 200): "x" + strings.Repeat("é", 127),
	} {
		got := protocol.CleanText(in, protocol.MaxTextBytes)
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		rec := record(site())
		rec.Step = &got
		if err := protocol.Validate(rec, now); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
	if got := protocol.CleanText("ab", -1); got != "" {
		t.Errorf("no room: got %q", got)
	}
}
