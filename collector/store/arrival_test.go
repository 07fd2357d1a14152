package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

// testArrivals reads records in the order in which they came, which is not that of their times.
func testArrivals(t *testing.T, s *server) {
	db := s.open(t)
	at := func(n int) time.Time {
		return received.Add(time.Duration(n) * time.Millisecond).Truncate(time.Microsecond)
	}
	for n, batch := range [][]*protocol.Record{
		append(measurements("torino", 1, 7, 9), measurement("genova", 1, 1)),
		measurements("torino", 1, 1, 3),
		append(measurements("torino", 2, 4, 5), health("torino", 3, 1, 1)),
	} {
		if _, _, err := db.Commit(t.Context(), at(n), batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	read := func(kind protocol.Kind, after protocol.Arrival, stations []string, limit int) []protocol.StoredRecord {
		t.Helper()
		list, err := db.Arrivals(t.Context(), kind, after, stations, limit)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for name, c := range map[string]struct {
		kind     protocol.Kind
		after    protocol.Arrival
		stations []string
		want     []uint64
	}{
		"all":                       {kind: protocol.KindMeasurement, want: []uint64{1, 7, 8, 9, 1, 2, 3, 4, 5}},
		"of one station":            {kind: protocol.KindMeasurement, stations: []string{"genova"}, want: []uint64{1}},
		"from a time on":            {kind: protocol.KindMeasurement, after: protocol.Arrival{Received: at(1)}, want: []uint64{1, 2, 3, 4, 5}},
		"after one of another kind": {kind: protocol.KindMeasurement, after: protocol.Arrival{Received: at(1), Kind: protocol.KindSpectrum}, want: []uint64{4, 5}},
		"before one of another":     {kind: protocol.KindMeasurement, after: protocol.Arrival{Received: at(1), Kind: protocol.KindGap}, want: []uint64{1, 2, 3, 4, 5}},
		"after one": {
			kind:  protocol.KindMeasurement,
			after: protocol.Arrival{Received: at(0), Kind: protocol.KindMeasurement, Station: "torino", Spool: spoolOf(1), Seq: 8},
			want:  []uint64{9, 1, 2, 3, 4, 5},
		},
		"health": {kind: protocol.KindHealth, want: []uint64{1}},
		"gap":    {kind: protocol.KindGap, want: []uint64{}},
	} {
		list := read(c.kind, c.after, c.stations, 100)
		if diff := cmp.Diff(c.want, seqs(list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	var paged []protocol.StoredRecord
	var after protocol.Arrival
	for {
		list := read(protocol.KindMeasurement, after, nil, 2)
		if len(list) == 0 {
			break
		}
		paged = append(paged, list...)
		after = protocol.ArrivalOf(&list[len(list)-1])
	}
	if diff := cmp.Diff([]uint64{1, 7, 8, 9, 1, 2, 3, 4, 5}, seqs(paged)); diff != "" {
		t.Errorf("in pages of two (-want +got):\n%s", diff)
	}
	_, err := db.Arrivals(t.Context(), protocol.KindSite, protocol.Arrival{}, nil, 1)
	wantField(t, err, "kind")
	_, err = db.Arrivals(t.Context(), protocol.KindGap, protocol.Arrival{}, []string{"X"}, -1)
	wantField(t, err, "station")
}
