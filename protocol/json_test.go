package protocol_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestUnmarshalJSON_ReadsProtobufsOwnSpelling(t *testing.T) {
	for name, want := range golden(t) {
		for _, options := range []protojson.MarshalOptions{{}, {UseProtoNames: true}, {UseEnumNumbers: true}, {Multiline: true}} {
			payload, err := options.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeAs(want, payload)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, payload)
				continue
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestUnmarshalJSON_Accepts(t *testing.T) {
	for text, want := range map[string]*protocol.Record{
		`{}`: {},
		`{"seq":118,"received":"2026-11-24T01:26:33Z","late":true,"unknown":{"deep":[[[1]]]},"measurement":{"newer":1}}`: {
			Seq: new(uint64(118)), Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{}},
		},
		`{"seq":1e3,"time":"2026-11-24T02:26:32.5+01:00","step":null,"time_quality":"a_later_one"}`: {Seq: new(uint64(1000)), Time: at(0)},
		`{"seq":"118","time":"1795483592500000000","time_quality":5}`: {
			Seq: new(uint64(118)), Time: at(0), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(),
		},
		`{"time":1795483592500000000,"time_uncertainty_s":"0.5"}`: {Time: at(0), TimeUncertaintyS: new(0.5)},
		`{"time":"2026-11-24T01:26:32.5","spool":"nzxaHnewwhQ="}`: {Time: at(0), Spool: spool[:]},
		`{"spool":"nzxaHnewwhQ","step":"\u0000\ud83d\ude00"}`:     {Spool: spool[:], Step: new("\x00😀")},
		`{"measurement":{"flags":["overload","of_2030","FLAG_CLIPPED",99]}}`: {
			Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
				Flags: []protocol.Flag{protocol.Flag_FLAG_OVERLOAD, protocol.Flag_FLAG_CLIPPED, 99},
			}},
		},
		`{"gap":{"ranges":[[1,5],{"from":7,"to":"9"}]}}`: {Body: &protocol.Record_Gap{Gap: &protocol.Gap{
			Ranges: protocol.NewRanges(protocol.Range{From: 1, To: 5}, protocol.Range{From: 7, To: 9}).Wire(),
		}}},
		`{"iq":{"data":"-_8="}}`:               {Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{Data: []byte{0xfb, 0xff}}}},
		`{"reply":null,"site":{"heightM":-0}}`: {Body: &protocol.Record_Site{Site: &protocol.Site{HeightM: new(math.Copysign(0, -1))}}},
		`{"spectrum":{"dbfs_hz":null}}`:        {Body: &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{}}},
	} {
		got := record(health()) // must be replaced, not merged
		if err := protocol.UnmarshalJSON([]byte(text), got); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestUnmarshalJSON_RefusesNamingField(t *testing.T) {
	for text, want := range map[string]protocol.Error{
		``:                                {Code: protocol.CodeMalformed},
		`{"station":`:                     {Code: protocol.CodeMalformed},
		`[]`:                              {Code: protocol.CodeMalformed},
		`null`:                            {Code: protocol.CodeMalformed},
		"{\"step\":\"\xff\"}":             {Code: protocol.CodeInvalidText},
		`{"station":5}`:                   {Code: protocol.CodeMalformed, Field: "station", Value: `"5"`},
		`{"spool":5}`:                     {Code: protocol.CodeMalformed, Field: "spool"},
		`{"spool":"9f3c5a1e77b0c21x"}`:    {Code: protocol.CodeMalformed, Field: "spool", Value: `"9f3c5a1e77b0c21x"`},
		`{"spool":"%"}`:                   {Code: protocol.CodeMalformed, Field: "spool"},
		`{"seq":-1}`:                      {Code: protocol.CodeMalformed, Field: "seq", Value: `"-1"`},
		`{"seq":1.5}`:                     {Code: protocol.CodeMalformed, Field: "seq"},
		`{"seq":1e30}`:                    {Code: protocol.CodeMalformed, Field: "seq"},
		`{"seq":{}}`:                      {Code: protocol.CodeMalformed, Field: "seq"},
		`{"seq":"a\ud800"}`:               {Code: protocol.CodeMalformed, Field: "seq"},
		`{"time":"yesterday"}`:            {Code: protocol.CodeMalformed, Field: "time", Value: `"yesterday"`},
		`{"time":true}`:                   {Code: protocol.CodeMalformed, Field: "time"},
		`{"time":"0001-01-01T00:00:00Z"}`: {Code: protocol.CodeAbsurdTime, Field: "time"},
		`{"health":{"oldest":"9999-01-01T00:00:00Z"}}`:               {Code: protocol.CodeAbsurdTime, Field: "health.oldest"},
		`{"time_quality":"5x","site":[]}`:                            {Code: protocol.CodeMalformed, Field: "site"},
		`{"time_quality":[]}`:                                        {Code: protocol.CodeMalformed, Field: "time_quality"},
		`{"measurement":{"snr_db":"NaN"}}`:                           {Code: protocol.CodeNotFinite, Field: "measurement.snr_db", Value: `"NaN"`},
		`{"measurement":{"snr_db":1e40}}`:                            {Code: protocol.CodeMalformed, Field: "measurement.snr_db"},
		`{"measurement":{"snr_db":false}}`:                           {Code: protocol.CodeMalformed, Field: "measurement.snr_db"},
		`{"measurement":{"peak_hz":[]}}`:                             {Code: protocol.CodeMalformed, Field: "measurement.peak_hz"},
		`{"measurement":{"flags":"overload"}}`:                       {Code: protocol.CodeMalformed, Field: "measurement.flags"},
		`{"measurement":{"flags":[{}]}}`:                             {Code: protocol.CodeMalformed, Field: "measurement.flags"},
		`{"measurement":{},"site":{}}`:                               {Code: protocol.CodeMalformed, Field: "site"},
		`{"detection":{"open":1}}`:                                   {Code: protocol.CodeMalformed, Field: "detection.open"},
		`{"iq":{"index":4294967296}}`:                                {Code: protocol.CodeMalformed, Field: "iq.index"},
		`{"iq":{"data":"*"}}`:                                        {Code: protocol.CodeMalformed, Field: "iq.data"},
		`{"gap":{"ranges":[[1]]}}`:                                   {Code: protocol.CodeMalformed, Field: "gap.ranges"},
		`{"gap":{"ranges":[["a",1]]}}`:                               {Code: protocol.CodeMalformed, Field: "gap.ranges"},
		`{"gap":{"ranges":[[1,null]]}}`:                              {Code: protocol.CodeMalformed, Field: "gap.ranges"},
		`{"gap":{"ranges":[5]}}`:                                     {Code: protocol.CodeMalformed, Field: "gap.ranges"},
		`{"gap":{"ranges":{}}}`:                                      {Code: protocol.CodeMalformed, Field: "gap.ranges"},
		`{"gap":{"ranges":[` + strings.Repeat(`{},`, 4096) + `{}]}}`: {Code: protocol.CodeTooMany, Field: "gap.ranges"},
		`{"spectrum":{"dbfs_hz":5}}`:                                 {Code: protocol.CodeMalformed, Field: "spectrum.dbfs_hz"},
		`{"spectrum":{"dbfs_hz":[1,null]}}`:                          {Code: protocol.CodeMalformed, Field: "spectrum.dbfs_hz"},
		`{"spectrum":{"dbfs_hz":[]}}`:                                {Code: protocol.CodeMalformed, Field: "spectrum.dbfs_hz"},
		`{"spectrum":{"dbfs_hz":[1e5]}}`:                             {Code: protocol.CodeOutOfRange, Field: "spectrum.dbfs_hz"},
	} {
		err := protocol.UnmarshalJSON([]byte(text), new(protocol.Record))
		checkError(t, text, err, want)
	}
	err := protocol.UnmarshalJSON([]byte(`{"capture":{"priority":1.5}}`), new(protocol.Command))
	checkError(t, "priority", err, protocol.Error{Code: protocol.CodeMalformed, Field: "capture.priority", Value: `"1.5"`})
	err = protocol.UnmarshalJSON([]byte(`{"capture":{"priority":[]}}`), new(protocol.Command))
	checkError(t, "priority", err, protocol.Error{Code: protocol.CodeMalformed, Field: "capture.priority"})
	err = protocol.UnmarshalJSON([]byte(`{"capture":{"priority":"\x"}}`), new(protocol.Command))
	checkError(t, "priority", err, protocol.Error{Code: protocol.CodeMalformed})
}

// checkError compares an error with what is said of it in want; an empty value is not compared.
func checkError(t *testing.T, what string, err error, want protocol.Error) {
	t.Helper()
	got, ok := err.(*protocol.Error) //nolint:errorlint // returned as it is, by contract
	if !ok {
		t.Errorf("%.80s: got %v, want an *Error with %q at %q", what, err, want.Code, want.Field)
		return
	}
	if got.Code != want.Code || got.Field != want.Field || want.Value != "" && got.Value != want.Value || got.Message == "" {
		t.Errorf("%.80s: got %q at %q (%v), want %q at %q", what, got.Code, got.Field, err, want.Code, want.Field)
	}
}

func TestUnmarshalJSON_KeepsFinerGridsOfOthers(t *testing.T) {
	for text, want := range map[string]float32{
		`{"dbfs_hz":[-101.4,-100.9,-62.4]}`: 0.5,
		`{"dbfs_hz":[-101.4,-101.3,-90]}`:   0.1,
		`{"dbfs_hz":[-101.4,-101.3,-62.4]}`: 0.5, // a byte holds no 390 steps
		`{"dbfs_hz":[-101.44,-101.3]}`:      0.5,
	} {
		s := new(protocol.Spectrum)
		if err := protocol.UnmarshalJSON([]byte(text), s); err != nil {
			t.Fatal(err)
		}
		if got := s.GetResolutionDb(); got != want {
			t.Errorf("%s: steps of %v dB, want %v", text, got, want)
		}
		if want == 0.1 {
			if got := string(marshal(t, s)); got != text {
				t.Errorf("got %s, want %s", got, text)
			}
		}
	}
}

func TestMarshalJSON_LeavesOutWhatIsUnknown(t *testing.T) {
	rec := &protocol.Record{Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
		SnrDb: new(float32(nan)), PeakHz: &inf, DcI: new(float32(0)), PowerDbfs: new(float32(1e-7)), CenterHz: new(1e22),
	}}}
	want := `{"measurement":{"center_hz":1e+22,"dc_i":0,"power_dbfs":1e-07}}`
	if got := string(marshal(t, rec)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMarshalJSON_WritesAnyTextAsJSON(t *testing.T) {
	text := "quote \" slash \\ line\n tab\t bell\a <html> €😀 \u2028 broken \xff"
	b := marshal(t, &protocol.Reply{Message: &text})
	var got struct{ Message string }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if want := strings.ToValidUTF8(text, "\ufffd"); got.Message != want {
		t.Errorf("got %q, want %q", got.Message, want)
	}
}

func TestMarshalJSON_WritesWhatItCannotInterpret(t *testing.T) {
	broken := spectrum(t)
	broken.Levels = []byte{1, 2, 3}
	for want, m := range map[string]proto.Message{
		`{"start_hz":145400000,"step_hz":12500,"averages":16,"enbw_bins":1.5,"duration_s":10,"offset_dbfs_hz":-101.4,"resolution_db":0.5,"bins":16,"codec":"raw","levels":"AQID"}`: broken,
		`{"time_quality":77}`:    &protocol.Record{TimeQuality: protocol.TimeQuality(77).Enum()},
		`{"from":5}`:             &protocol.SeqRange{From: new(uint64(5))},
		`{"spool":"","step":""}`: &protocol.Record{Spool: []byte{}, Step: new("")},
	} {
		b := marshal(t, m)
		if string(b) != want {
			t.Errorf("got %s, want %s", b, want)
		}
		back := m.ProtoReflect().New().Interface()
		if err := protocol.UnmarshalJSON(b, back); err != nil || !proto.Equal(m, back) {
			t.Errorf("%s came back as %v (%v)", b, back, err)
		}
	}
	for _, m := range []proto.Message{nil, (*protocol.Record)(nil)} {
		if b, err := protocol.MarshalJSON(m); code(err) != protocol.CodeMalformed {
			t.Errorf("%v: got %s, %v; want an error", m, b, err)
		}
	}
}

func TestFlatJSON(t *testing.T) {
	rec := record(&protocol.Detection{DurationS: new(0.5), SnrDb: new(float32(9.5))})
	rec.Station, rec.Spool, rec.Seq, rec.Receiver, rec.Step = nil, nil, nil, nil, nil
	got, err := protocol.FlatJSON(rec, protocol.Member{Name: "file", Value: "a<b>.cu8"}, protocol.Member{Name: "start_s", Value: 0.2846})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"detection","file":"a\u003cb\u003e.cu8","start_s":0.2846,"time":"2026-11-24T01:26:32.500000000Z",` +
		`"duration_s":0.5,"snr_db":9.5,"time_quality":"ntp","time_uncertainty_s":0.0018}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, m := range golden(t) {
		rec, ok := m.(*protocol.Record)
		if !ok {
			continue
		}
		b, err := protocol.FlatJSON(rec)
		if err != nil {
			t.Fatal(err)
		}
		checkFlat(t, name, rec, b)
	}
	if b, err := protocol.FlatJSON(&protocol.Record{}); code(err) != protocol.CodeUnknownKind {
		t.Errorf("no body: got %s, %v", b, err)
	}
	if b, err := protocol.FlatJSON(rec, protocol.Member{Name: "x", Value: nan}); err == nil {
		t.Errorf("NaN: got %s", b)
	}
}

// checkFlat compares a flat object with the nested one.
func checkFlat(t *testing.T, name string, rec *protocol.Record, flat []byte) {
	t.Helper()
	var nested, got map[string]any
	if err := json.Unmarshal(marshal(t, rec), &nested); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(flat, &got); err != nil {
		t.Fatalf("%s: %v", flat, err)
	}
	kind := string(rec.Kind())
	body, _ := nested[kind].(map[string]any)
	delete(nested, kind)
	want := map[string]any{"kind": kind}
	for member, v := range body {
		if _, taken := nested[member]; taken || member == "spool" {
			member = kind + "_" + member
		}
		want[member] = v
	}
	for member, v := range nested {
		want[member] = v
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestAppendMembers(t *testing.T) {
	received := time.Date(2026, 11, 24, 2, 0, 0, 5, time.FixedZone("CET", 3600))
	got, err := protocol.AppendMembers([]byte(`{"seq":1}`), protocol.Member{Name: "received", Value: received}, protocol.Member{Name: "late", Value: true})
	if want := `{"seq":1,"received":"2026-11-24T01:00:00.000000005Z","late":true}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	got, err = protocol.AppendMembers([]byte(`{}`), protocol.Member{Name: "a", Value: nil})
	if want := `{"a":null}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := protocol.AppendMembers([]byte(`[]`)); code(err) != protocol.CodeMalformed {
		t.Errorf("an array: got %v, want an error", err)
	}
	if _, err := protocol.AppendMembers([]byte(`{}`), protocol.Member{Name: "x", Value: func() {}}); err == nil {
		t.Error("a function was written as JSON")
	}
}

func TestParseTime(t *testing.T) {
	want := time.Date(2025, 11, 15, 17, 34, 32, 232_000_000, time.UTC)
	for _, s := range []string{"2025-11-15T17:34:32.232000000Z", "2025-11-15T17:34:32.232Z", "2025-11-15T18:34:32.232+01:00", "2025-11-15T17:34:32.232", "2025-11-15T17:34:32.2320000009Z"} {
		if got, err := protocol.ParseTime(s); err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%s: got %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]protocol.Code{"": protocol.CodeMalformed, "2025-11-15": protocol.CodeMalformed, "1600-01-01T00:00:00Z": protocol.CodeAbsurdTime, "2262-05-01T00:00:00Z": protocol.CodeAbsurdTime} {
		if got, err := protocol.ParseTime(s); code(err) != want {
			t.Errorf("%q: got %v, %v; want code %q", s, got, err, want)
		}
	}
}

func TestNames_BothWays(t *testing.T) {
	for n, want := range map[protocol.TimeQuality]string{0: "unspecified", 1: "gnss", 2: "gnss_stale", 3: "beacon", 4: "ptp", 5: "ntp", 6: "system", 7: "arrival", 8: "recorded", 9: "simulated", 10: "unset", 77: "77"} {
		if got := n.Short(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if n == 77 {
			continue
		}
		for _, name := range []string{want, n.String()} {
			if got, err := protocol.ParseTimeQuality(name); err != nil || got != n {
				t.Errorf("%s: got %v, %v", name, got, err)
			}
		}
	}
	for n := range protocol.Flag_name {
		if got, err := protocol.ParseFlag(protocol.Flag(n).Short()); err != nil || got != protocol.Flag(n) {
			t.Errorf("%v: got %v, %v", protocol.Flag(n), got, err)
		}
	}
	for n := range protocol.Gap_Reason_name {
		if got, err := protocol.ParseGapReason(protocol.Gap_Reason(n).Short()); err != nil || got != protocol.Gap_Reason(n) {
			t.Errorf("%v: got %v, %v", protocol.Gap_Reason(n), got, err)
		}
	}
	final := 0
	for n := range protocol.Reply_State_name {
		state := protocol.Reply_State(n)
		if got, err := protocol.ParseReplyState(state.Short()); err != nil || got != state {
			t.Errorf("%v: got %v, %v", state, got, err)
		}
		if state.Final() {
			final++
			if !protocol.StationState(state.Short()).Settled() {
				t.Errorf("%v ends the replies, but not the station's part in the acquisition", state)
			}
		}
	}
	if final != 5 || protocol.Reply_State(77).Final() || protocol.StationQueued.Settled() || protocol.StationState("").Settled() {
		t.Errorf("%d final states, want done, refused, failed, expired and cancelled", final)
	}
	_, err := protocol.ParseTimeQuality("NTP")
	checkError(t, "NTP", err, protocol.Error{Code: protocol.CodeMalformed, Field: "time_quality", Value: `"NTP"`})
	if want := "want one of gnss, gnss_stale, beacon, ptp, ntp,"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want it to say %q", err, want)
	}
}

func TestJSONHoldsNUL(t *testing.T) {
	for text, want := range map[string]bool{
		``: false, `"a"`: false, `"\u0000"`: true, `"\\u0000"`: false, `"\\\u0000"`: true, `"\\u0000 \u0000"`: true, `"u0000"`: false, `\u0000`: true, `"\u00001"`: true,
	} {
		if got := protocol.JSONHoldsNUL([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
