package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	defaultLimit    = 100
	longestList     = 1000
	mostRows        = 1_000_000_000 // that a bulk read may be limited to
	longestCursor   = 512
	mostStations    = 100
	mostFaults      = 50   // named in one answer
	highestHz       = 1e12 // above every radio
	timeExample     = "2026-11-24T02:00:00Z"
	frequencyForms  = "write a frequency in Hz such as 145500000, 145.5M or 12.5k"
	frequencyAdvice = frequencyForms + ", from 0 to 1e12"
)

// query reads the parameters of one request and collects every fault.
type query struct {
	values url.Values
	who    *caller
	bulk   bool // all that there is may be asked for, as it is not kept in memory
	faults protocol.FieldErrors
	// foreign are stations that the caller may not ask for.
	foreign protocol.FieldErrors
}

// askedOf reads the parameters of a request, whose caller may not ask for all stations.
func askedOf(r *http.Request, known []parameter) *query {
	q := parseQuery(r.URL.RawQuery, known)
	q.who = callerOf(r.Context())
	return q
}

// parseQuery splits a query and refuses parameters that are not known, repeated where one is meant, or empty.
func parseQuery(raw string, known []parameter) *query {
	q := &query{}
	var err error
	q.values, err = url.ParseQuery(raw)
	if err != nil {
		q.fault("query", raw, "write name=value&name=value with % and & inside a value written as %25 and %26")
	}
	names := make([]string, 0, len(q.values))
	for name := range q.values {
		names = append(names, name)
	}
	slices.Sort(names) // the same request always gives the same answer
	for _, name := range names {
		q.checkParameter(name, known)
	}
	return q
}

func (q *query) checkParameter(name string, known []parameter) {
	values := q.values[name]
	i := slices.IndexFunc(known, func(p parameter) bool { return p.name == name })
	if i < 0 {
		q.fault(name, values[0], "no such parameter; "+knownNames(known))
		delete(q.values, name)
		return
	}
	if len(values) > 1 && !known[i].many {
		q.fault(name, strings.Join(values, ", "), "give it once")
		delete(q.values, name)
		return
	}
	for _, v := range values {
		if v == "" || !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			q.fault(name, v, "write a value such as "+known[i].example+", or leave the parameter out")
			delete(q.values, name)
			return
		}
	}
}

func knownNames(known []parameter) string {
	if len(known) == 0 {
		return "this address takes none"
	}
	names := make([]string, len(known))
	for i, p := range known {
		names[i] = p.name
	}
	return "known are " + strings.Join(names, ", ")
}

func (q *query) fault(field, value, message string) {
	if len(q.faults) == mostFaults {
		return
	}
	q.faults = append(q.faults, protocol.FieldError{Field: field, Value: value, Message: message})
}

// err is all faults so far, nil when there are none.
func (q *query) err() error {
	switch {
	case len(q.faults) > 0:
		return badQuery.faulty(q.faults)
	case len(q.foreign) > 0:
		return forbidden.faulty(q.foreign)
	}
	return nil
}

// filter reads the parameters that lists of records share, but for where a page begins and ends.
func (q *query) filter() protocol.Filter {
	f := protocol.Filter{Stations: q.stations("station")}
	f.From, f.To = q.span()
	f.MinHz = q.frequency("min_hz", frequencyAdvice, parseFrequency)
	f.MaxHz = q.frequency("max_hz", positiveAdvice, parsePositive) // 0 would read as no limit
	if q.values.Has("min_hz") && q.values.Has("max_hz") && f.MaxHz > 0 && f.MinHz > f.MaxHz {
		q.fault("max_hz", q.values.Get("max_hz"), "must not be below min_hz, "+q.values.Get("min_hz"))
	}
	return f
}

// span reads from and to.
func (q *query) span() (from, to time.Time) {
	from, to = q.time("from"), q.time("to")
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		q.fault("to", q.values.Get("to"), "must be later than from, "+q.values.Get("from"))
	}
	return from, to
}

// stations reads station ids, given repeatedly or with commas between; those that the caller sees where it is limited and names none.
func (q *query) stations(name string) []string {
	var ids []string
	for _, value := range q.values[name] {
		for id := range strings.SplitSeq(value, ",") {
			if err := protocol.ValidStation(id); err != nil {
				q.fault(name, id, stationAdvice)
				continue
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > mostStations {
		q.fault(name, fmt.Sprintf("%d stations", len(ids)), fmt.Sprintf("name at most %d, or leave it out for all", mostStations))
		return nil
	}
	q.foreign = append(q.foreign, q.who.limits(name, ids)...)
	if len(ids) == 0 {
		return q.who.stations
	}
	return ids
}

const stationAdvice = "a station id has 2 to 32 lower-case letters, digits and dashes, and starts with a letter or digit"

// time reads an RFC 3339 time, or a date for its midnight in UTC; zero when absent or wrong.
func (q *query) time(name string) time.Time {
	text := q.values.Get(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil && len(text) == len(time.DateOnly) {
		t, err = time.Parse(time.DateOnly, text)
	}
	switch {
	case err != nil && strings.Contains(text, " "):
		q.fault(name, text, "write a time like "+timeExample+"; a + in an address is written %2B")
	case err != nil:
		q.fault(name, text, "write a time like "+timeExample+" or a date like "+timeExample[:len(time.DateOnly)])
	case t.Year() < 1970 || t.Year() > 2200:
		q.fault(name, text, "write a time between the years 1970 and 2200")
	default:
		return t.UTC()
	}
	return time.Time{}
}

// frequency reads a frequency in Hz; 0 when absent or wrong.
func (q *query) frequency(name, advice string, parse func(string) (float64, bool)) float64 {
	text := q.values.Get(name)
	if text == "" {
		return 0
	}
	hz, ok := parse(text)
	if !ok {
		q.fault(name, text, advice)
	}
	return hz
}

// parseFrequency reads a frequency as people write it, between 0 and 1 THz.
func parseFrequency(text string) (float64, bool) {
	var hz configs.Hertz
	err := hz.UnmarshalText([]byte(text))
	v := float64(hz)
	if err != nil || math.IsNaN(v) || v < 0 || v > highestHz || strings.ContainsAny(text, "xXpP_") {
		return 0, false
	}
	return v, true
}

// limit reads the length of a page, or of a bulk read, where absent means all of it.
func (q *query) limit() int {
	absent, longest := defaultLimit, longestList
	if q.bulk {
		absent, longest = math.MaxInt, mostRows
	}
	text := q.values.Get("limit")
	if text == "" {
		return absent
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > longest || strconv.Itoa(n) != text {
		q.fault("limit", text, fmt.Sprintf("write a whole number from 1 to %d", longest))
		return absent
	}
	return n
}

// cursor reads where a page starts. Only who made it can tell whether it is right.
func (q *query) cursor() string {
	text := q.values.Get("cursor")
	if len(text) > longestCursor {
		q.fault("cursor", text, "copy next_cursor of the page before, or leave it out for the first page")
		return ""
	}
	return text
}

// choices reads words of a set, given repeatedly or with commas between; nil when absent.
func (q *query) choices(name string, set []string) []string {
	var chosen []string
	for _, value := range q.values[name] {
		for word := range strings.SplitSeq(value, ",") {
			if !slices.Contains(set, word) {
				q.fault(name, word, "choose of "+strings.Join(set, ", "))
				continue
			}
			chosen = append(chosen, word)
		}
	}
	return chosen
}
