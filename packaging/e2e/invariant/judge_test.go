package invariant_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

var (
	epoch  = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	first  = invariant.Identity{1}
	second = invariant.Identity{2}
)

// scene builds a world as a faultless system would leave it.
type scene struct {
	t *testing.T
	invariant.World
}

func (s *scene) station(id string) *invariant.Station {
	for i := range s.Stations {
		if s.Stations[i].ID == id {
			return &s.Stations[i]
		}
	}
	s.t.Fatalf("no station %s", id)
	return nil
}

func (s *scene) add(id string, policy invariant.Policy) {
	s.Stations = append(s.Stations, invariant.Station{ID: id, Policy: policy, Agents: []invariant.Agent{{Log: &oracle.Log{}}}})
}

func at(i int) time.Time { return epoch.Add(time.Duration(i) * time.Second) }

func encoded(t *testing.T, station string, kind protocol.Kind, i int) []byte {
	r := &protocol.Record{Station: proto.String(station), Time: proto.Int64(at(i).UnixNano()), Receiver: proto.String("r0")}
	switch kind {
	case protocol.KindMeasurement:
		r.Body = &protocol.Record_Measurement{Measurement: &protocol.Measurement{DurationS: proto.Float64(float64(i) + 1)}}
	case protocol.KindSpectrum:
		r.Body = &protocol.Record_Spectrum{Spectrum: &protocol.Spectrum{StartHz: proto.Float64(float64(i) + 1)}}
	default:
		r.Body = &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: proto.Float64(45)}}
	}
	payload, err := protocol.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// give lets a station's agent be given record i, which gets number seq; 0: nobody knows.
func (s *scene) give(station string, kind protocol.Kind, i int, seq uint64) *oracle.Record {
	log := s.station(station).Agents[0].Log
	r := oracle.Record{Line: 100 * i, Process: 1, Kind: kind, Payload: encoded(s.t, station, kind, i)}
	if seq > 0 {
		r.Taken, r.Spool, r.Seq = r.Line+1, first, seq
	}
	log.Records = append(log.Records, r)
	return &log.Records[len(log.Records)-1]
}

func (s *scene) commit(station string, line int, seq uint64) {
	log := s.station(station).Agents[0].Log
	log.Commits = append(log.Commits, oracle.Committed{Line: line, Process: 1, Spool: first, Seq: seq})
}

// store puts what a payload says into the database, with the product's own digest.
func (s *scene) store(station string, payload []byte, n invariant.Number, received time.Time) *invariant.Row {
	r, err := protocol.Decode(protocol.Seal(payload, n.Spool, n.Seq))
	if err != nil {
		s.t.Fatal(err)
	}
	row := invariant.Row{Station: station, Number: n, Kind: r.Kind(), Time: r.GetTime(), Digest: protocol.Digest(r), Received: received}
	if g := r.GetGap(); g != nil {
		row.Gap = &invariant.Gap{
			Spool: n.Spool, Ranges: protocol.RangesOf(g.GetRanges()), Reason: g.GetReason().Short(), Lane: g.GetLane(),
			Records: g.GetRecords(), Bytes: g.GetBytes(),
		}
		if len(g.GetSpool()) > 0 {
			row.Gap.Spool = invariant.Identity(g.GetSpool())
		}
	}
	s.Rows = append(s.Rows, row)
	return &s.Rows[len(s.Rows)-1]
}

func (s *scene) gap(station string, n invariant.Number, i int, g *protocol.Gap) {
	payload, err := protocol.Encode(&protocol.Record{
		Station: proto.String(station), Time: proto.Int64(at(i).UnixNano()), Body: &protocol.Record_Gap{Gap: g},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.store(station, payload, n, at(i+1))
}

// keepBooks makes the ledgers say what the rows say.
func (s *scene) keepBooks() {
	s.Ledgers = nil
	ledger := func(station string, spool invariant.Identity) *invariant.Ledger {
		for i := range s.Ledgers {
			if s.Ledgers[i].Station == station && s.Ledgers[i].Spool == spool {
				return &s.Ledgers[i]
			}
		}
		s.Ledgers = append(s.Ledgers, invariant.Ledger{Station: station, Spool: spool})
		return &s.Ledgers[len(s.Ledgers)-1]
	}
	for _, r := range s.Rows {
		ledger(r.Station, r.Spool).Received.Add(r.Seq)
	}
	for _, r := range s.Rejected {
		ledger(r.Station, r.Spool).Rejected.Add(r.Seq)
	}
	for _, r := range s.Rows {
		if r.Gap != nil {
			l := ledger(r.Station, r.Gap.Spool)
			l.Gapped = l.Gapped.Union(r.Gap.Ranges).Subtract(l.Received).Subtract(l.Rejected)
		}
	}
}

func (s *scene) row(station string, seq uint64) *invariant.Row {
	for i := range s.Rows {
		if r := &s.Rows[i]; r.Station == station && r.Seq == seq && r.Spool == first {
			return r
		}
	}
	s.t.Fatalf("%s has no row %d", station, seq)
	return nil
}

func (s *scene) dropRow(station string, seq uint64) {
	s.Rows = slices.DeleteFunc(s.Rows, func(r invariant.Row) bool { return r.Station == station && r.Seq == seq && r.Spool == first })
}

func ranges(from, to uint64) protocol.Ranges { return protocol.Ranges{{From: from, To: to}} }

// faultless is a network of five stations, each with what its policy allows.
func faultless(t *testing.T) *scene {
	s := &scene{t: t}
	// clean: ten records, the last still in the spool; two more were on their way when the agent was killed, and the number
	// of one was given again.
	s.add("clean", invariant.Policy{})
	for i := range 10 {
		r := s.give("clean", protocol.KindMeasurement, i, uint64(i+1))
		if i < 9 {
			s.store("clean", r.Payload, invariant.Number{Spool: first, Seq: r.Seq}, at(i+1))
		} else {
			a := &s.station("clean").Agents[0]
			a.Held = append(a.Held, invariant.Held{Number: invariant.Number{Spool: first, Seq: r.Seq}, Payload: r.Payload})
		}
	}
	s.commit("clean", 1000, 10)
	s.give("clean", protocol.KindMeasurement, 20, 11)
	s.give("clean", protocol.KindMeasurement, 21, 0)
	log := s.station("clean").Agents[0].Log
	again := s.give("clean", protocol.KindMeasurement, 22, 11)
	again.Process = 2
	log.Commits = append(log.Commits, oracle.Committed{Line: 2300, Process: 2, Spool: first, Seq: 11})
	s.store("clean", again.Payload, invariant.Number{Spool: first, Seq: 11}, at(23))
	// full: three spectra and then two measurements had to go; later ones came.
	s.add("full", invariant.Policy{Full: true})
	var spectra, measurements uint64
	for i := range 12 {
		kind := protocol.KindMeasurement
		if i%2 == 0 && i < 6 {
			kind = protocol.KindSpectrum
		}
		r := s.give("full", kind, i, uint64(i+1))
		switch {
		case kind == protocol.KindSpectrum:
			spectra += uint64(len(r.Payload)) + 40
		case i < 4:
			measurements += uint64(len(r.Payload)) + 40
		default:
			s.store("full", r.Payload, invariant.Number{Spool: first, Seq: r.Seq}, at(60))
		}
	}
	s.commit("full", 1150, 12)
	s.gap("full", invariant.Number{Spool: first, Seq: 13}, 20, &protocol.Gap{
		Reason: protocol.Gap_REASON_QUOTA.Enum(), Lane: proto.String("spectrum"), Records: proto.Uint64(3), Bytes: &spectra,
		Ranges: protocol.NewRanges(protocol.Range{From: 1, To: 1}, protocol.Range{From: 3, To: 3}, protocol.Range{From: 5, To: 5}).Wire(),
	})
	s.gap("full", invariant.Number{Spool: first, Seq: 14}, 21, &protocol.Gap{
		Reason: protocol.Gap_REASON_QUOTA.Enum(), Lane: proto.String("measurement"), Records: proto.Uint64(2), Bytes: &measurements,
		Ranges: protocol.NewRanges(protocol.Range{From: 2, To: 2}, protocol.Range{From: 4, To: 4}).Wire(),
	})
	s.commit("full", 1300, 14)
	// damaged: 40 records, of which a damage took one, and the next one another that had been taken over; the rest was delivered.
	s.add("damaged", invariant.Policy{Damaged: true})
	var held, intact, held2 [][]byte
	for i := range 40 {
		r := s.give("damaged", protocol.KindMeasurement, i, uint64(i+1))
		held = append(held, r.Payload)
		if i != 7 {
			intact = append(intact, r.Payload)
		}
		if i >= 8 && i < 12 {
			held2 = append(held2, r.Payload)
		} else if i != 7 {
			s.store("damaged", r.Payload, invariant.Number{Spool: first, Seq: r.Seq}, at(100))
		}
	}
	s.commit("damaged", 4100, 40)
	s.gap("damaged", invariant.Number{Spool: second, Seq: 1}, 90, &protocol.Gap{
		Reason: protocol.Gap_REASON_SPOOL_LOST.Enum(), Spool: first[:], Ranges: ranges(8, 12).Wire(),
	})
	s.station("damaged").Damages = []invariant.Damage{{Kind: "bit", Held: held, Intact: intact}, {Kind: "truncated", Held: held2}}
	// cloned: number 3 was taken by the copy, so the original's record moved.
	s.add("cloned", invariant.Policy{Cloned: true})
	s.station("cloned").Agents = append(s.station("cloned").Agents, invariant.Agent{Log: &oracle.Log{}})
	for i := range 3 {
		r := s.give("cloned", protocol.KindMeasurement, i, uint64(i+1))
		n := invariant.Number{Spool: first, Seq: r.Seq}
		if i == 2 {
			n = invariant.Number{Spool: second, Seq: 1}
		}
		s.store("cloned", r.Payload, n, at(10))
	}
	s.commit("cloned", 250, 3)
	copied := oracle.Record{
		Line: 1, Process: 1, Kind: protocol.KindMeasurement, Payload: encoded(t, "cloned", protocol.KindMeasurement, 50),
		Taken: 2, Spool: first, Seq: 3, Put: true,
	}
	s.station("cloned").Agents[1].Log.Records = []oracle.Record{copied}
	s.store("cloned", copied.Payload, invariant.Number{Spool: first, Seq: 3}, at(51))
	s.gap("cloned", invariant.Number{Spool: second, Seq: 2}, 60, &protocol.Gap{
		Reason: protocol.Gap_REASON_CONFLICT.Enum(), Spool: first[:], Ranges: ranges(3, 3).Wire(),
	})
	// skewed: a record from tomorrow was refused.
	s.add("skewed", invariant.Policy{Skewed: true})
	r := s.give("skewed", protocol.KindMeasurement, 1, 1)
	r.Put = true
	s.Rejected = append(s.Rejected, invariant.Rejected{Station: "skewed", Number: invariant.Number{Spool: first, Seq: 1}, Reason: "time"})
	s.keepBooks()
	s.Acks = []invariant.Ack{{Station: "clean", Spool: first, Settled: ranges(1, 5)}, {Station: "damaged", Spool: first, Settled: ranges(1, 40)}}
	return s
}

func TestJudge_Faultless(t *testing.T) {
	report := invariant.Judge(faultless(t).World)
	for _, f := range report.Findings {
		t.Error(f)
	}
	clean, full := report.Stations["clean"], report.Stations["full"]
	if clean.Given != 13 || clean.Unknown != 2 || clean.Stored != 10 || clean.Held != 1 {
		t.Errorf("clean: %+v", clean)
	}
	if full.Declared["quota"] != 5 || full.OwnGaps != 2 {
		t.Errorf("full: %+v", full)
	}
	if c := report.Stations["cloned"]; c.Moved != 1 {
		t.Errorf("cloned: %+v", c)
	}
}

// TestJudge_Planted plants one fault at a time and demands that it be found, for the station where it is.
func TestJudge_Planted(t *testing.T) {
	plant := map[string]struct {
		station string
		want    invariant.Fault
		plant   func(*scene)
	}{
		"a row is dropped": {"clean", invariant.Missing, func(s *scene) { s.dropRow("clean", 4) }},
		"a row is dropped, and the ledger with it": {"clean", invariant.Hole, func(s *scene) {
			s.dropRow("clean", 4)
			s.keepBooks()
		}},
		"a row is dropped, and the ledger still has it": {"clean", invariant.BadLedger, func(s *scene) { s.dropRow("clean", 4) }},
		"a row is there twice":                          {"clean", invariant.Duplicate, func(s *scene) { s.Rows = append(s.Rows, *s.row("clean", 4)) }},
		"a record is stored under two numbers": {"clean", invariant.Duplicate, func(s *scene) {
			s.store("clean", s.station("clean").Agents[0].Log.Records[3].Payload, invariant.Number{Spool: first, Seq: 12}, at(30))
			s.keepBooks()
		}},
		"a row is another station's": {"full", invariant.Invented, func(s *scene) {
			r := s.row("clean", 4)
			r.Station, r.Seq = "full", 30
		}},
		"a row has gone to another":      {"clean", invariant.Missing, func(s *scene) { s.row("clean", 4).Station = "full" }},
		"a digest is forged":             {"clean", invariant.Forged, func(s *scene) { s.row("clean", 4).Digest[0]++ }},
		"a time is forged":               {"clean", invariant.Forged, func(s *scene) { s.row("clean", 4).Time++ }},
		"a kind is forged":               {"clean", invariant.Forged, func(s *scene) { s.row("clean", 4).Kind = protocol.KindSpectrum }},
		"the first of two contents wins": {"clean", invariant.Forged, func(s *scene) { s.row("clean", 4).Digest = s.row("clean", 5).Digest }},
		"a row is invented": {"clean", invariant.Invented, func(s *scene) {
			s.store("clean", encoded(s.t, "clean", protocol.KindMeasurement, 77), invariant.Number{Spool: first, Seq: 12}, at(77))
			s.keepBooks()
		}},
		"a gap is forgotten": {"full", invariant.Missing, func(s *scene) { s.dropRow("full", 13); s.keepBooks() }},
		"a gap is declared by a station that was never full": {"clean", invariant.Undeserved, func(s *scene) {
			s.gap("clean", invariant.Number{Spool: first, Seq: 12}, 30, &protocol.Gap{
				Reason: protocol.Gap_REASON_QUOTA.Enum(), Lane: proto.String("measurement"), Ranges: ranges(4, 4).Wire(),
			})
		}},
		"a station that was only full declares damage": {"full", invariant.Undeserved, func(s *scene) {
			s.gap("full", invariant.Number{Spool: first, Seq: 15}, 30, &protocol.Gap{
				Reason: protocol.Gap_REASON_CORRUPT.Enum(), Lane: proto.String("measurement"), Ranges: ranges(5, 5).Wire(),
			})
		}},
		"an ack comes early": {"clean", invariant.Early, func(s *scene) {
			s.Acks = append(s.Acks, invariant.Ack{Station: "clean", Spool: first, Settled: ranges(1, 6), Unproven: ranges(6, 6)})
		}},
		"an ack is for what never came": {"clean", invariant.Early, func(s *scene) {
			s.Acks = append(s.Acks, invariant.Ack{Station: "clean", Spool: first, Settled: ranges(1, 10)})
		}},
		"a number is given twice": {"clean", invariant.Reused, func(s *scene) {
			r := s.give("clean", protocol.KindMeasurement, 40, 5)
			r.Process = 2
		}},
		"an identity is made twice": {"clean", invariant.Reused, func(s *scene) {
			r := s.give("clean", protocol.KindMeasurement, 40, 1)
			r.Process, r.Put = 3, true
		}},
		"a rejection is lost": {"skewed", invariant.Missing, func(s *scene) { s.Rejected = nil; s.keepBooks() }},
		"a sound record is rejected": {"clean", invariant.Refused, func(s *scene) {
			s.dropRow("clean", 4)
			s.Rejected = append(s.Rejected, invariant.Rejected{Station: "clean", Number: invariant.Number{Spool: first, Seq: 4}, Reason: "because"})
			s.keepBooks()
		}},
		"a record leaves the spool": {"clean", invariant.Missing, func(s *scene) { s.station("clean").Agents[0].Held = nil }},
		"a record with only a Put leaves": {"clean", invariant.Missing, func(s *scene) {
			s.give("clean", protocol.KindMeasurement, 30, 12).Put = true
		}},
		"a spectrum outlives a measurement": {"full", invariant.WrongOrder, func(s *scene) {
			s.store("full", s.station("full").Agents[0].Log.Records[4].Payload, invariant.Number{Spool: first, Seq: 5}, at(60))
			s.row("full", 13).Gap.Ranges = protocol.Ranges{{From: 1, To: 1}, {From: 3, To: 3}}
		}},
		"an older measurement outlives a younger": {"full", invariant.WrongOrder, func(s *scene) {
			s.row("full", 14).Gap.Ranges = protocol.Ranges{{From: 8, To: 8}, {From: 10, To: 10}}
		}},
		"a record is lost from a lane it was not in": {"full", invariant.WrongOrder, func(s *scene) { s.row("full", 13).Gap.Lane = "iq" }},
		"a sum of records is wrong":                  {"full", invariant.WrongSum, func(s *scene) { s.row("full", 13).Gap.Records-- }},
		"a sum of bytes is too small":                {"full", invariant.WrongSum, func(s *scene) { s.row("full", 13).Gap.Bytes = 10 }},
		"a sum of bytes is too large":                {"full", invariant.WrongSum, func(s *scene) { s.row("full", 13).Gap.Bytes = 1 << 20 }},
		"two gaps name one number": {"full", invariant.WrongSum, func(s *scene) {
			s.Rows = append(s.Rows, *s.row("full", 13))
			s.Rows[len(s.Rows)-1].Seq = 15
			s.keepBooks()
		}},
		"a move loses what it moves": {"cloned", invariant.Missing, func(s *scene) {
			s.Rows = slices.DeleteFunc(s.Rows, func(r invariant.Row) bool { return r.Station == "cloned" && r.Spool == second && r.Seq == 1 })
			s.keepBooks()
		}},
		"the ledger names what is not there": {"clean", invariant.BadLedger, func(s *scene) { s.Ledgers[0].Received.Add(99) }},
		"the ledger forgets a gap":           {"full", invariant.BadLedger, func(s *scene) { s.row("full", 13).Gap.Ranges.Add(6); s.dropRow("full", 6) }},
		"a damaged spool is thrown away": {"all", invariant.Unsaved, func(s *scene) {
			for seq := uint64(10); seq <= 40; seq++ {
				s.dropRow("damaged", seq)
			}
			s.gap("damaged", invariant.Number{Spool: second, Seq: 2}, 91, &protocol.Gap{
				Reason: protocol.Gap_REASON_SPOOL_LOST.Enum(), Spool: first[:], Ranges: ranges(10, 40).Wire(),
			})
			s.Acks = nil
			s.keepBooks()
		}},
	}
	for name, c := range plant {
		t.Run(name, func(t *testing.T) {
			s := faultless(t)
			c.plant(s)
			report := invariant.Judge(s.World)
			found := slices.ContainsFunc(report.Findings, func(f invariant.Finding) bool { return f.Fault == c.want && f.Station == c.station })
			if !found {
				t.Errorf("want %s at %s, found %v", c.want, c.station, fmt.Sprint(report.Findings))
			}
		})
	}
}
