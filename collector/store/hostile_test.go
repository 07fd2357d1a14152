package store_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// testHostile sends what stations should not.
func testHostile(t *testing.T, s *server) {
	db := s.open(t)
	with := func(change func(rec *protocol.Record)) *protocol.Record {
		rec := measurement("torino", 1, 1)
		change(rec)
		return rec
	}
	spectrum := func(change func(*protocol.Spectrum)) *protocol.Record {
		rec := proto.Clone(records()[1]).(*protocol.Record)
		change(rec.GetSpectrum())
		return rec
	}
	refused := map[string]*protocol.Record{
		"no station":      with(func(r *protocol.Record) { r.Station = nil }),
		"bad station":     with(func(r *protocol.Record) { r.Station = new("../etc") }),
		"reserved":        with(func(r *protocol.Record) { r.Station = new("collector") }),
		"no spool":        with(func(r *protocol.Record) { r.Spool = nil }),
		"long spool":      with(func(r *protocol.Record) { r.Spool = make([]byte, 9) }),
		"no seq":          with(func(r *protocol.Record) { r.Seq = nil }),
		"seq too large":   with(func(r *protocol.Record) { r.Seq = new(uint64(1<<63 - 1)) }),
		"no time":         with(func(r *protocol.Record) { r.Time = nil }),
		"no body":         with(func(r *protocol.Record) { r.Body = nil }),
		"NUL":             with(func(r *protocol.Record) { r.Receiver = new("a\x00b") }),
		"not UTF-8":       with(func(r *protocol.Record) { r.Receiver = new("a\xffb") }),
		"count too large": with(func(r *protocol.Record) { r.GetMeasurement().Samples = new(uint64(1 << 63)) }),
		"gap from 0":      gap("torino", 1, 1, 0, protocol.Range{From: 0, To: 4}),
		"gap too far":     gap("torino", 1, 1, 0, protocol.Range{From: 1, To: 1 << 63}),
		"gap of a short spool": with(func(r *protocol.Record) {
			r.Body = &protocol.Record_Gap{Gap: &protocol.Gap{Spool: []byte{1, 2}}}
		}),
		"health too far": health("torino", 1, 1, 1, protocol.Range{From: 1, To: 1 << 63}),
		"NUL in JSON": with(func(r *protocol.Record) {
			r.Body = &protocol.Record_Health{Health: &protocol.Health{Receivers: []*protocol.ReceiverHealth{{Error: new("\x00")}}}}
		}),
		"NUL in a detection's id": with(func(r *protocol.Record) {
			r.Body = &protocol.Record_Detection{Detection: &protocol.Detection{DetectionId: new("\x00")}}
		}),
		"too few levels":  spectrum(func(s *protocol.Spectrum) { s.Bins = new(uint32(5)) }),
		"broken deflate":  spectrum(func(s *protocol.Spectrum) { s.Codec = protocol.Spectrum_CODEC_DEFLATE.Enum() }),
		"unknown codec":   spectrum(func(s *protocol.Spectrum) { s.Codec = protocol.Spectrum_Codec(77).Enum() }),
		"too many levels": spectrum(func(s *protocol.Spectrum) { s.Bins, s.Levels = new(uint32(70000)), make([]byte, 70000) }),
	}
	for name, rec := range refused {
		_, _, err := db.Commit(t.Context(), received, []*protocol.Record{rec}, nil)
		var own *store.Error
		if !errors.As(err, &own) || !own.OneRecord() {
			t.Errorf("%s: %v, want the fault of one record", name, err)
		}
	}
	if n := s.number(t, "SELECT count(*) FROM record"); n != 0 {
		t.Errorf("%d rows of what was refused", n)
	}
	testHostileButStorable(t, s, db)
}

// testHostileButStorable sends what is odd, but means something.
func testHostileButStorable(t *testing.T, s *server, db *store.DB) {
	seq := uint64(0)
	var taken []*protocol.Record
	take := func(change func(rec *protocol.Record)) {
		seq++
		rec := measurement("torino", 1, seq)
		change(rec)
		taken = append(taken, rec)
	}
	for _, text := range []string{"'; DROP TABLE measurement; --", `\`, `"`, "$1", "%s", "{}", "NULL", "", "\U0001F4E1", string(make([]rune, 0)), "\x01\x7f"} {
		take(func(r *protocol.Record) { r.Receiver, r.Step = new(text), new(text) })
	}
	inf := float32(1e38)
	inf *= 10
	for _, v := range []float32{1e-45, -1e38, inf, -inf} {
		take(func(r *protocol.Record) {
			r.GetMeasurement().PowerDbfs, r.GetMeasurement().DurationS = new(v), new(float64(v))
		})
	}
	take(func(r *protocol.Record) { r.TimeQuality = protocol.TimeQuality(99).Enum() })
	take(func(r *protocol.Record) { r.GetMeasurement().Flags = []protocol.Flag{77} })
	take(func(r *protocol.Record) { *r.GetMeasurement() = protocol.Measurement{} })
	take(func(r *protocol.Record) { r.Receiver, r.Step, r.TimeQuality, r.TimeUncertaintyS = nil, nil, nil, nil })
	take(func(r *protocol.Record) { r.Time = new(int64(1<<63 - 1)) })
	take(func(r *protocol.Record) { r.Time = new(int64(-1 << 63)) })
	commit(t, db, taken...)
	list, _, err := db.Records(t.Context(), protocol.KindMeasurement, protocol.Filter{Limit: 1000})
	if err != nil || len(list) != len(taken) {
		t.Fatalf("%d records, %v; want %d", len(list), err, len(taken))
	}
	for _, stored := range list {
		want := taken[stored.Record.GetSeq()-1]
		if !proto.Equal(want, stored.Record) {
			t.Errorf("stored %v, want %v", stored.Record, want)
		}
	}
	if n := s.number(t, "SELECT sum(measurements) FROM measurement_1h"); n != int64(len(taken)) {
		t.Errorf("%d in the hourly view, want %d", n, len(taken))
	}
}
