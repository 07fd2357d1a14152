package api

import (
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// route is one entry of the table that handlers, OpenAPI and the documentation page are made of.
type route struct {
	method   string
	path     string // as in OpenAPI: {id} may be followed by a suffix in the last step
	id       string // operationId
	tag      string
	summary  string
	detail   string
	query    []parameter
	body     *content // nil: none is read
	bodyless bool     // the body may be left out
	answer   content
	status   int
	problems []problemKind // besides those that every address can answer with
	role     protocol.Role // the least that may ask; a route without one is refused by New
	network  bool          // tells of all stations together, and so nothing to a token that is limited to some
	anyQuery bool          // parameters are not looked at
	old      bool          // for clients of the former service only
	lasting  bool          // the answer is a stream or a file, which takes any time
	serve    func(s *server, w http.ResponseWriter, r *http.Request) error
	listing  *listing // in place of serve
}

// content is a body: of a request or of an answer.
type content struct {
	types   []string // media types, the usual one first
	schema  string   // name of a component; empty for bytes and text
	example any
	text    string // what it is
}

// parameter is one parameter of a query.
type parameter struct {
	name    string
	text    string
	example string
	schema  map[string]any
	many    bool // may be given repeatedly, or with commas between
}

const (
	jsonType    = "application/json"
	htmlType    = "text/html"
	tarType     = "application/x-tar"
	bytesType   = "application/octet-stream"
	eventsType  = "text/event-stream"
	metricsType = "text/plain"
)

var (
	stationParameter = parameter{
		name: "station", text: "Only of these stations.", example: "giaveno", many: true,
		schema: map[string]any{"type": "array", "items": map[string]any{"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{1,31}$"}},
	}
	fromParameter = parameter{
		name: "from", text: "Not before this time. A date is its midnight in UTC.", example: timeExample,
		schema: map[string]any{"type": "string", "format": "date-time"},
	}
	toParameter = parameter{
		name: "to", text: "Before this time. A date is its midnight in UTC.", example: "2026-11-24T03:00:00Z",
		schema: map[string]any{"type": "string", "format": "date-time"},
	}
	minHzParameter = parameter{
		name: "min_hz", text: "Only what reaches above this frequency. Kinds without a frequency are not restricted.",
		example: "145M", schema: frequencySchema(),
	}
	maxHzParameter = parameter{
		name: "max_hz", text: "Only what reaches below this frequency. Kinds without a frequency are not restricted.",
		example: "145.5M", schema: frequencySchema(),
	}
	limitParameter = parameter{
		name: "limit", text: "Length of a page, at most 1000; 100 when absent. As CSV or JSON lines, the most rows in all; all there are when absent.",
		example: "100", schema: map[string]any{"type": "integer", "minimum": 1, "maximum": mostRows},
	}
	cursorParameter = parameter{
		name: "cursor", text: "next_cursor of the page before.", example: "b2xkZXI",
		schema: map[string]any{"type": "string", "maxLength": longestCursor},
	}
	recordParameters = []parameter{stationParameter, fromParameter, toParameter, minHzParameter, maxHzParameter, limitParameter, cursorParameter}
)

// bulkDetail says how all of a list is read.
const bulkDetail = "With Accept: text/csv or application/x-ndjson (JSON lines) the answer is all of the range in one stream, " +
	"not a page; a stream that breaks off before its end is not all there is. CSV has a header; a member inside a member is named " +
	"after both (position.latitude_deg), a list is JSON in one cell, what is absent is an empty cell; a text that begins with =, +, -, @, tab or CR has an apostrophe before it."

// steadyDetail says what an ETag of stations does not tell.
const steadyDetail = "The ETag is weak: it stays while nothing changes but history_from and, of a station that is online, last_seen; after a 304 these two may have moved on. "

func frequencySchema() map[string]any {
	return map[string]any{"type": "string", "pattern": `^\+?[0-9.]+(e[+-]?[0-9]+)? ?[kKMG]?(Hz|hz)?$`}
}

// routes is the table.
func routes() []route {
	table := []route{
		{
			method: "GET", path: "/", id: "root", tag: "service", summary: "Says that the service runs; a browser gets the documentation", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType, htmlType}, schema: "Root", example: exampleRoot()}, anyQuery: true, serve: (*server).root,
		},
		{
			method: "GET", path: "/healthz", id: "healthz", tag: "service", summary: "Is alive", role: roleOpen,
			answer: content{types: []string{jsonType}, schema: "Alive", example: Alive{Status: "ok", Version: "1.0.0"}}, anyQuery: true, serve: (*server).healthz,
		},
		{
			method: "GET", path: "/readyz", id: "readyz", tag: "service", summary: "Can do its work, and if not, why",
			detail: "Answers 503 with the same body as long as a condition does not hold.", role: roleOpen,
			answer: content{types: []string{jsonType}, schema: "Readiness", example: exampleReadiness()}, anyQuery: true, serve: (*server).readyz,
		},
		{
			method: "GET", path: "/metrics", id: "metrics", tag: "service", summary: "Prometheus metrics", role: protocol.RoleViewer, network: true, anyQuery: true,
			answer: content{types: []string{metricsType}, text: "Prometheus text exposition format 0.0.4"}, serve: (*server).metrics,
		},
		{
			method: "GET", path: "/docs", id: "docs", tag: "service", summary: "This description for people", role: protocol.RoleViewer, anyQuery: true,
			answer: content{types: []string{htmlType}, text: "A page"}, serve: (*server).docsPage,
		},
		{
			method: "GET", path: "/docs/style.css", id: "docsStyle", tag: "service", summary: "The look of the documentation", role: protocol.RoleViewer, anyQuery: true,
			answer: content{types: []string{"text/css"}, text: "A style sheet"}, serve: (*server).docsStyle,
		},
		{
			method: "GET", path: "/api/v1/openapi.json", id: "openapi", tag: "service", summary: "This description for programs (OpenAPI 3.1)", role: protocol.RoleViewer,
			answer: content{types: []string{jsonType}, text: "An OpenAPI 3.1 document"}, serve: (*server).openAPIDocument,
		},
		{
			method: "GET", path: "/api/v1/stations", id: "listStations", tag: "stations", summary: "All stations", role: protocol.RoleViewer,
			detail:  steadyDetail + bulkDetail,
			answer:  content{types: listTypes(), schema: "StationList", example: list([]protocol.Station{exampleStation()}, "")},
			listing: &listing{columns: goColumns(reflect.TypeFor[protocol.Station]()), pages: stationPages, steady: steadyStations},
		},
		{
			method: "GET", path: "/api/v1/stations/{id}", id: "getStation", tag: "stations", summary: "One station: condition, receivers, clock, delivery", role: protocol.RoleViewer,
			detail:   strings.TrimSpace(steadyDetail),
			answer:   content{types: []string{jsonType}, schema: "Station", example: exampleStation()},
			problems: []problemKind{notFound}, serve: (*server).station,
		},
	}
	for _, k := range listedKinds() {
		table = append(table, recordRoute(k))
	}
	return slices.Concat(table, acquisitionRoutes(), recordingRoutes(), tokenRoutes(), accountRoutes(), enrolmentRoutes(), oldRoutes())
}

// listed is a kind of record that has a list.
type listed struct {
	kind   protocol.Kind
	plural string
	text   string
	band   bool // its records have a frequency
}

func listedKinds() []listed {
	return []listed{
		{protocol.KindMeasurement, "measurements", "Level, noise floor, SNR and bandwidth of each dwell and capture", true},
		{protocol.KindSpectrum, "spectra", "Averaged power spectral densities", true},
		{protocol.KindDetection, "detections", "Emissions in time and frequency", true},
		{protocol.KindHealth, "health", "What agents say of themselves", false},
		{protocol.KindGap, "gaps", "Records and samples that will never come, and why", false},
	}
}

func recordRoute(l listed) route {
	return route{
		method: "GET", path: "/api/v1/" + l.plural, id: "list" + strings.ToUpper(l.plural[:1]) + l.plural[1:], tag: "records", role: protocol.RoleViewer,
		summary: l.text, detail: "Newest first. " + bulkDetail, query: recordParameters,
		answer:  content{types: listTypes(), schema: schemaName(l.kind) + "RecordList", example: exampleRecords(l.kind)},
		listing: &listing{columns: recordColumns(l.kind), pages: recordPages(l)},
	}
}

func acquisitionRoutes() []route {
	return []route{
		{
			method: "POST", path: "/api/v1/acquisitions", id: "createAcquisition", tag: "acquisitions", role: protocol.RoleOperator,
			summary: "Asks several stations for the same stretch of time",
			detail: "Frequencies and the duration may also be text such as \"145.5M\" and \"250ms\". The Location header is the address of the new acquisition. " +
				"A request that is the same in all, its label too, as that of an acquisition whose start is still ahead joins it, and gets it as the answer.",
			body:   &content{types: []string{jsonType}, schema: "AcquisitionRequest", example: exampleRequest()},
			answer: content{types: []string{jsonType}, schema: "Acquisition", example: exampleAcquired()}, status: http.StatusAccepted,
			problems: []problemKind{badBody, badField, tooSlow, tooLarge, wrongType, crossOrigin}, serve: (*server).createAcquisition,
		},
		{
			method: "GET", path: "/api/v1/acquisitions", id: "listAcquisitions", tag: "acquisitions", summary: "Acquisitions, newest first", role: protocol.RoleViewer,
			detail: bulkDetail, query: []parameter{limitParameter, cursorParameter},
			answer:  content{types: listTypes(), schema: "AcquisitionList", example: list([]protocol.Acquisition{exampleAcquired()}, "")},
			listing: &listing{columns: goColumns(reflect.TypeFor[protocol.Acquisition]()), pages: acquisitionPages},
		},
		{
			method: "GET", path: "/api/v1/acquisitions/{id}", id: "getAcquisition", tag: "acquisitions", summary: "One acquisition: state, progress, and each station's part", role: protocol.RoleViewer,
			answer:   content{types: []string{jsonType}, schema: "Acquisition", example: exampleAcquired()},
			problems: []problemKind{notFound}, serve: (*server).acquisition,
		},
		captureRoute(),
		{
			method: "DELETE", path: "/api/v1/acquisitions/{id}", id: "cancelAcquisition", tag: "acquisitions", summary: "Cancels what has not started", role: protocol.RoleOperator,
			detail: "Stations that have not begun become cancelled at once and are told so; one that captures or sends goes on. The answer is the " +
				"acquisition as it is then. One that has ended stays as it is, so the request may be repeated.",
			answer:   content{types: []string{jsonType}, schema: "Acquisition", example: exampleCancelled()},
			problems: []problemKind{notFound, crossOrigin}, serve: (*server).cancelAcquisition,
		},
		{
			method: "GET", path: "/api/v1/events", id: "events", tag: "events", summary: "What happens, while it happens (server-sent events)", role: protocol.RoleViewer,
			detail: "Events are record, acquisition and station; data is the same JSON as in the lists. Each has an id: who comes again with it, in the " +
				"header Last-Event-ID as browsers do or as last_event_id, first gets every record that the collector has stored since, also " +
				"while it was not running, then all stations and the newest 1000 acquisitions as they are now. Nothing is lost; something may come twice: " +
				"know records by station, spool and seq. An id older than a day is answered with the event reset: read the lists for what was " +
				"missed. A client that does not keep up is disconnected, and resumes. With several collectors, a stream tells what its own one stores.",
			query:  eventParameters(),
			answer: content{types: []string{eventsType}, text: "A stream of events"}, problems: []problemKind{unavailable}, lasting: true, serve: (*server).events,
		},
	}
}

func recordingRoutes() []route {
	const one = "/api/v1/recordings/{id}"
	file := func(suffix, id, summary, mediaType string, serve func(*server, http.ResponseWriter, *http.Request) error) route {
		return route{
			method: "GET", path: one + suffix, id: id, tag: "recordings", summary: summary, role: protocol.RoleViewer, detail: "Ranges may be asked for, also on condition (If-Range). The ETag of samples is their SHA-512.",
			answer: content{types: []string{mediaType}, text: "A file"}, problems: []problemKind{notFound, changed, wrongRange}, lasting: true, serve: serve,
		}
	}
	return []route{
		{
			method: "GET", path: "/api/v1/recordings", id: "listRecordings", tag: "recordings", summary: "Recordings, newest first", role: protocol.RoleViewer, detail: bulkDetail, query: recordParameters,
			answer:  content{types: listTypes(), schema: "RecordingList", example: list([]protocol.Recording{exampleRecording()}, "")},
			listing: &listing{columns: goColumns(reflect.TypeFor[protocol.Recording]()), pages: recordingPages},
		},
		{
			method: "GET", path: one, id: "getRecording", tag: "recordings", summary: "One recording", role: protocol.RoleViewer,
			answer:   content{types: []string{jsonType}, schema: "Recording", example: exampleRecording()},
			problems: []problemKind{notFound}, serve: (*server).recording,
		},
		file(".sigmf", "getRecordingArchive", "A recording as one SigMF archive", tarType, (*server).recordingArchive),
		file(".sigmf-meta", "getRecordingMeta", "A recording's SigMF metadata", jsonType, (*server).recordingMeta),
		file(".sigmf-data", "getRecordingData", "A recording's samples", bytesType, (*server).recordingData),
	}
}

// pattern is what the ServeMux matches: its wildcards are whole steps of a path, without a suffix.
func (rt *route) pattern() (pattern, suffix string) {
	dir, last := path.Split(rt.path)
	if i := strings.LastIndexByte(last, '}'); i >= 0 {
		suffix, last = last[i+1:], last[:i+1]
	}
	full := dir + last
	if full == "/" {
		full = "/{$}"
	}
	return rt.method + " " + full, suffix
}

// register puts the table's handlers into the mux. Routes that differ by a suffix share a pattern.
func (s *server) register() {
	byPattern := map[string][]*route{}
	var order []string
	for i := range s.routes {
		pattern, _ := s.routes[i].pattern()
		if byPattern[pattern] == nil {
			order = append(order, pattern)
		}
		byPattern[pattern] = append(byPattern[pattern], &s.routes[i])
	}
	for _, pattern := range order {
		same := byPattern[pattern]
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.handle(choose(same, r), w, r)
		})
	}
	s.mux.Handle("GET /docs/{$}", http.RedirectHandler("/docs", http.StatusMovedPermanently))
	s.mux.HandleFunc("/", s.nothing)
}

// choose finds the route with the longest suffix that the id has, and takes the suffix off the id.
func choose(same []*route, r *http.Request) *route {
	best, id := same[0], r.PathValue("id")
	longest := -1
	for _, rt := range same {
		_, suffix := rt.pattern()
		if strings.HasSuffix(id, suffix) && len(suffix) > longest {
			best, longest = rt, len(suffix)
		}
	}
	if longest > 0 {
		r.SetPathValue("id", id[:len(id)-longest])
	}
	return best
}
