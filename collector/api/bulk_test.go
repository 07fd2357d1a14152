package api_test

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// lists are the addresses that can be read in bulk.
func lists() []string {
	return []string{"stations", "measurements", "spectra", "detections", "health", "gaps", "acquisitions", "recordings"}
}

// pagesOf has the reader give n measurements, page by page; it tells how many pages were read.
func pagesOf(w *world, n int) *atomic.Int64 {
	var pages atomic.Int64
	record := recordOf(protocol.KindMeasurement)
	w.reader.records = func(_ context.Context, _ protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
		pages.Add(1)
		from, _ := strconv.Atoi(f.Cursor)
		to := min(from+f.Limit, n)
		items := make([]protocol.StoredRecord, to-from)
		for i := range items {
			items[i] = protocol.StoredRecord{Record: record, Received: noon}
		}
		if to == n {
			return items, "", nil
		}
		return items, strconv.Itoa(to), nil
	}
	return &pages
}

func TestBulk_LinesAreTheItemsOfTheList(t *testing.T) {
	h := newWorld().handler(t)
	for _, name := range lists() {
		var whole struct{ Items []json.RawMessage }
		if err := json.Unmarshal(get(t, h, "GET", "/api/v1/"+name).Body.Bytes(), &whole); err != nil || len(whole.Items) == 0 {
			t.Fatalf("%s: %d items, %v", name, len(whole.Items), err)
		}
		for _, form := range []string{"application/x-ndjson", "application/jsonl"} {
			w := newWorld()
			w.reader.records = func(_ context.Context, kind protocol.Kind, _ protocol.Filter) ([]protocol.StoredRecord, string, error) {
				return []protocol.StoredRecord{{Record: recordOf(kind), Received: noon, Late: true}}, "", nil
			}
			answer := get(t, w.handler(t), "GET", "/api/v1/"+name, "Accept", form)
			if answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != form || answer.Header().Get("Vary") != "Accept" {
				t.Errorf("%s: status %d, headers %v", name, answer.Code, answer.Header())
			}
			if diff := cmp.Diff(string(whole.Items[0])+"\n", answer.Body.String()); diff != "" {
				t.Errorf("%s as %s (-list +lines):\n%s", name, form, diff)
			}
		}
	}
}

// The header is part of the contract: people's scripts name its columns.
func TestBulk_CSVHasAStableHeader(t *testing.T) {
	w := newWorld()
	w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
		return nil, "", nil
	}
	h := w.handler(t)
	const record = "station,spool,seq,time,receiver,step,time_quality,time_uncertainty_s,received,late,"
	for name, want := range map[string]string{
		"measurements": record + "duration_s,center_hz,sample_rate_hz,samples,lost_samples,clipped_fraction,dc_i,dc_q,power_dbfs,noise_floor_dbfs_hz," +
			"peak_hz,peak_dbfs,snr_db,occupied_bandwidth_hz,occupied_low_hz,occupied_high_hz,flags,power_dbm,noise_floor_dbm_hz,peak_dbm,calibration_uncertainty_db",
		"spectra": record + "start_hz,step_hz,averages,enbw_bins,duration_s,dbfs_hz",
		"gaps":    record + "gap_spool,ranges,lane,records,bytes,from,to,reason",
	} {
		answer := get(t, h, "GET", "/api/v1/"+name, "Accept", "text/csv")
		if got := answer.Header().Get("Content-Type"); got != "text/csv; charset=utf-8; header=present" {
			t.Errorf("%s: content type %q", name, got)
		}
		if diff := cmp.Diff(want+"\r\n", answer.Body.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Every member that the list has stands in one cell of the row.
func TestBulk_CSVLeavesNothingOut(t *testing.T) {
	h := newWorld().handler(t)
	doc := document(t, h)
	for _, name := range lists() {
		op := doc.Paths["/api/v1/"+name]["get"]
		example := op.Responses["200"].Content["application/json"].Example.(map[string]any)["items"].([]any)[0]
		header, _, err := csvOf(get(t, h, "GET", "/api/v1/"+name, "Accept", "text/csv").Body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kind := map[string]string{"measurements": "measurement", "spectra": "spectrum", "detections": "detection", "health": "health", "gaps": "gap"}[name]
		for _, leaf := range leaves(example) {
			flat := strings.TrimPrefix(leaf, kind+".")
			if !slices.Contains(header, flat) && !slices.Contains(header, kind+"_"+flat) {
				t.Errorf("%s: no column for %s in %v", name, leaf, header)
			}
		}
	}
}

// leaves are the paths of the members that hold no members with fixed names.
func leaves(v any) []string {
	var paths []string
	for name, member := range v.(map[string]any) {
		if _, ok := member.(map[string]any); !ok || name == "measurement" && len(v.(map[string]any)) < 5 {
			paths = append(paths, name)
			continue
		}
		for _, path := range leaves(member) {
			paths = append(paths, name+"."+path)
		}
	}
	return paths
}

func csvOf(r io.Reader) (header []string, rows []map[string]string, err error) {
	all, err := csv.NewReader(r).ReadAll()
	if err != nil || len(all) == 0 {
		return nil, nil, fmt.Errorf("%d rows: %w", len(all), err)
	}
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, cell := range cells {
			row[all[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return all[0], rows, nil
}

func TestBulk_CSVCells(t *testing.T) {
	w := newWorld()
	spectrum := recordOf(protocol.KindSpectrum)
	levels, err := protocol.NewSpectrum([]float64{-101.5, -100.5}, 145.4e6, 50e3)
	if err != nil {
		t.Fatal(err)
	}
	spectrum.Body = &protocol.Record_Spectrum{Spectrum: levels}
	detection := recordOf(protocol.KindDetection)
	detection.Step = proto.String("two, \"three\"\r\nfour")
	gap := recordOf(protocol.KindGap)
	gap.GetGap().Ranges = []*protocol.SeqRange{{From: proto.Uint64(4), To: proto.Uint64(9)}}
	health := recordOf(protocol.KindHealth)
	health.GetHealth().Clock = &protocol.Clock{UncertaintyS: proto.Float64(0.004)}
	w.reader.records = func(_ context.Context, kind protocol.Kind, _ protocol.Filter) ([]protocol.StoredRecord, string, error) {
		record := map[protocol.Kind]*protocol.Record{
			protocol.KindSpectrum: spectrum, protocol.KindDetection: detection, protocol.KindGap: gap, protocol.KindHealth: health,
		}[kind]
		return []protocol.StoredRecord{{Record: record, Received: noon, Late: kind == protocol.KindGap}}, "", nil
	}
	w.reader.stations = func(context.Context) ([]protocol.Station, error) {
		return []protocol.Station{{
			ID: "torino", Number: 1, Name: "A<b> & C, \"D\"", Reason: "=1+1", Version: "-2", Position: &protocol.Position{LatitudeDeg: 45.07, LongitudeDeg: 7.69, Precision: "10km"},
			Steps: json.RawMessage(`{"vhf": {"history_s": 27}}`),
		}}, nil
	}
	h := w.handler(t)
	for _, c := range []struct{ list, column, want string }{
		{"spectra", "dbfs_hz", "[-101.5,-100.5]"},
		{"spectra", "start_hz", "145400000"},
		{"spectra", "late", ""},
		{"detections", "step", "two, \"three\"\nfour"}, // the reader makes LF of CR LF
		{"detections", "flags", `["clipped"]`},
		{"detections", "snr_db", ""},
		{"gaps", "ranges", "[[4,9]]"},
		{"gaps", "spool", "382072616e646f6d"},
		{"gaps", "gap_spool", "382072616e646f6d"},
		{"gaps", "late", "true"},
		{"gaps", "reason", "power"},
		{"health", "clock.uncertainty_s", "0.004"},
		{"health", "now", "2026-11-24T12:00:00.000000000Z"},
		{"stations", "name", `A<b> & C, "D"`},
		{"stations", "reason", "'=1+1"},
		{"stations", "version", "'-2"},
		{"stations", "position.latitude_deg", "45.07"},
		{"stations", "clock.quality", ""},
		{"stations", "receivers", "[]"},
		{"stations", "receiver_state", `{"vhf":{"history_s":27}}`},
		{"acquisitions", "request.frequency_hz", "0"},
		{"acquisitions", "stations", "[]"},
		{"recordings", "datatype", "cu8"},
	} {
		answer := get(t, h, "GET", "/api/v1/"+c.list, "Accept", "text/csv")
		_, rows, err := csvOf(answer.Body)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%s: %d rows, %v", c.list, len(rows), err)
		}
		if got, ok := rows[0][c.column]; !ok || got != c.want {
			t.Errorf("%s: %s is %q, want %q (there: %v)", c.list, c.column, got, c.want, ok)
		}
	}
}

func TestBulk_FormsByAccept(t *testing.T) {
	h := newWorld().handler(t)
	for accept, want := range map[string]string{
		"":                                       "application/json",
		"*/*":                                    "application/json",
		"application/*":                          "application/json",
		"text/*":                                 "text/csv; charset=utf-8; header=present",
		"text/csv":                               "text/csv; charset=utf-8; header=present",
		"TEXT/CSV; q=0.5":                        "text/csv; charset=utf-8; header=present",
		"text/csv;q=0.5,*/*;q=0.1":               "text/csv; charset=utf-8; header=present",
		"text/csv;q=0.5, application/json":       "application/json",
		"application/x-ndjson, application/json": "application/json",
		"application/json;q=0.9,application/jsonl":   "application/jsonl",
		"application/x-ndjson":                       "application/x-ndjson",
		"text/csv;q=0, application/x-ndjson;q=0.001": "application/x-ndjson",
		"application/xml":                            "application/problem+json",
		"text/csv;q=0":                               "application/problem+json",
		"text/csv;q=nan":                             "application/problem+json",
		"text/html":                                  "application/problem+json",
	} {
		var headers []string
		if accept != "" {
			headers = []string{"Accept", accept}
		}
		answer := get(t, h, "GET", "/api/v1/detections?limit=1", headers...)
		if got := answer.Header().Get("Content-Type"); got != want {
			t.Errorf("Accept %q: %s, want %s", accept, got, want)
		}
		if refused := want == "application/problem+json"; refused != (answer.Code == http.StatusNotAcceptable) {
			t.Errorf("Accept %q: status %d", accept, answer.Code)
		}
		head := get(t, h, "HEAD", "/api/v1/detections?limit=1", headers...)
		if head.Code != answer.Code || head.Header().Get("Content-Type") != want || head.Body.Len() > 0 {
			t.Errorf("HEAD, Accept %q: status %d, %s, %d bytes", accept, head.Code, head.Header().Get("Content-Type"), head.Body.Len())
		}
	}
}

func TestBulk_LimitAndCursor(t *testing.T) {
	w := newWorld()
	pagesOf(w, 2345)
	h := w.handler(t)
	for query, want := range map[string]int{
		"": 2345, "?limit=1": 1, "?limit=500": 500, "?limit=501": 501, "?limit=2345": 2345, "?limit=1000000": 2345, "?cursor=2300": 45, "?cursor=1000&limit=700": 700,
	} {
		answer := get(t, h, "GET", "/api/v1/measurements"+query, "Accept", "application/x-ndjson")
		if got := strings.Count(answer.Body.String(), "\n"); got != want {
			t.Errorf("%q: %d lines, want %d", query, got, want)
		}
		_, rows, err := csvOf(get(t, h, "GET", "/api/v1/measurements"+query, "Accept", "text/csv").Body)
		if err != nil || len(rows) != want {
			t.Errorf("%q: %d rows, want %d, %v", query, len(rows), want, err)
		}
	}
	for _, query := range []string{"limit=0", "limit=-1", "limit=all", "limit=1000000001", "from=x"} {
		p := problem(t, get(t, h, "GET", "/api/v1/measurements?"+query, "Accept", "text/csv"))
		if field, _, _ := strings.Cut(query, "="); p.Status != http.StatusBadRequest || p.Errors[0].Field != field {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

func TestLists_LinkTheNextPage(t *testing.T) {
	h := newWorld().handler(t)
	answer := get(t, h, "GET", "/api/v1/measurements?station=torino&limit=1&cursor=abc")
	if got, want := answer.Header().Get("Link"), `</api/v1/measurements?cursor=older&limit=1&station=torino>; rel="next"`; got != want {
		t.Errorf("Link %s, want %s", got, want)
	}
	if got := get(t, h, "GET", "/api/v1/acquisitions").Header().Get("Link"); got != "" {
		t.Errorf("the last page links %s", got)
	}
}

// stream is an open bulk read.
type stream struct {
	status int
	header http.Header
	io.ReadCloser
}

// readInBulk opens a bulk read over a real connection.
func readInBulk(t *testing.T, server *httptest.Server, form string) stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/v1/measurements", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", form)
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return stream{answer.StatusCode, answer.Header, answer.Body}
}

func TestBulk_MemoryDoesNotGrowWithTheRows(t *testing.T) {
	const rows = 60_000
	for _, form := range []string{"text/csv", "application/x-ndjson"} {
		w := newWorld()
		pagesOf(w, rows)
		inner := w.reader.records
		var asked int
		var first, most uint64
		w.reader.records = func(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
			if asked++; asked%30 == 0 {
				var now runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&now)
				if first == 0 {
					first = now.HeapAlloc
				}
				most = max(most, now.HeapAlloc)
			}
			return inner(ctx, kind, f)
		}
		server := startServer(t, w)
		lines := 0
		scanner := bufio.NewScanner(readInBulk(t, server, form))
		for scanner.Scan() {
			lines++
		}
		if form == "text/csv" {
			lines-- // the header
		}
		if scanner.Err() != nil || lines != rows {
			t.Errorf("%s: %d rows of %d, %v", form, lines, rows, scanner.Err())
		}
		if most > first+2<<20 {
			t.Errorf("%s: the heap grew from %d to %d bytes", form, first, most)
		}
		t.Logf("%s: %d rows, heap %d KiB at first, %d KiB at most", form, lines, first>>10, most>>10)
	}
}

func TestBulk_ClientsThatDoNotReadHoldNothingUpAndAreBounded(t *testing.T) {
	w := newWorld()
	pages := pagesOf(w, 1_000_000_000)
	server := httptest.NewUnstartedServer(w.handler(t))
	// Little room on the way, so that the server soon waits.
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if tcp, ok := conn.(*net.TCPConn); !ok || tcp.SetWriteBuffer(16<<10) != nil {
			t.Errorf("the room on the way of %T stays as it is", conn)
		}
		return ctx
	}
	server.Start()
	t.Cleanup(server.Close)
	var open []stream
	for range 16 {
		open = append(open, readInBulk(t, server, "application/x-ndjson"))
	}
	refused := readInBulk(t, server, "text/csv")
	if refused.status != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" {
		t.Errorf("one more: status %d, headers %v", refused.status, refused.header)
	}
	read, since := int64(-1), time.Now()
	until(t, "the server waits for its clients", func() bool {
		if now := pages.Load(); now != read {
			read, since = now, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	})
	for _, answer := range open {
		_ = answer.Close()
	}
	until(t, "there is room again", func() bool {
		return readInBulk(t, server, "text/csv").status == http.StatusOK
	})
}

func TestBulk_AFailureInTheMiddleBreaksTheConnection(t *testing.T) {
	for _, form := range []string{"text/csv", "application/x-ndjson"} {
		w := newWorld()
		pagesOf(w, 10_000)
		inner := w.reader.records
		w.reader.records = func(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
			if f.Cursor == "5000" {
				return nil, "", errors.New("the database went away")
			}
			return inner(ctx, kind, f)
		}
		answer := readInBulk(t, startServer(t, w), form)
		got, err := io.ReadAll(answer)
		if !errors.Is(err, io.ErrUnexpectedEOF) || answer.status != http.StatusOK {
			t.Errorf("%s: status %d, %d bytes, %v, want an unexpected end", form, answer.status, len(got), err)
		}
		if strings.Contains(string(got), "database") {
			t.Errorf("%s: the cause is in the answer", form)
		}
	}
	w := newWorld() // before the first row there is still time for a problem
	w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
		return nil, "", errors.New("broken")
	}
	if p := problem(t, get(t, w.handler(t), "GET", "/api/v1/gaps", "Accept", "text/csv")); p.Status != http.StatusInternalServerError {
		t.Errorf("problem %+v", p)
	}
}

func BenchmarkBulk(b *testing.B) {
	for _, form := range []string{"application/x-ndjson", "text/csv"} {
		b.Run(form, func(b *testing.B) {
			w := newWorld()
			pagesOf(w, b.N)
			h := w.handler(b)
			b.ReportAllocs()
			get(b, h, "GET", "/api/v1/measurements", "Accept", form)
		})
	}
}
