package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	longestBody  = 64 << 10
	longestLabel = 200 // bytes
)

func (s *server) createAcquisition(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	request, err := parseAcquisition(body)
	if err != nil {
		return err
	}
	if err := s.within(r.Context(), &request); err != nil {
		return err
	}
	made, err := s.Commander.Create(r.Context(), request)
	return s.acquired(w, r, actAcquire, made, err)
}

// acquired notes a new acquisition, and answers with it and its address.
func (s *server) acquired(w http.ResponseWriter, r *http.Request, action string, made *protocol.Acquisition, err error) error {
	if err != nil {
		problem, own := problemOf(err, badField)
		if own {
			return fmt.Errorf("create acquisition: %w", err)
		}
		return problem
	}
	s.noteDone(r, action, made.ID, ordered(made))
	w.Header().Set("Location", "/api/v1/acquisitions/"+made.ID)
	return send(w, r, http.StatusAccepted, wholeAcquisition(made))
}

// bodyPatience is how long a body may be on its way. Even 64 KiB over 64 kbit/s take less.
const bodyPatience = 10 * time.Second

// readBody reads the body of a request, which should be JSON. One that is too large or too slow ends the connection after the problem.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := isJSON(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > longestBody { // none of it is read, and none is asked for of a client that waits for 100 Continue
		w.Header().Set("Connection", "close")
		return nil, &http.MaxBytesError{Limit: longestBody}
	}
	patience := http.NewResponseController(w)
	if err := patience.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("bound the time of the body: %w", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestBody))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, tooSlow.with(fmt.Sprintf("the body was not complete after %v", bodyPatience), fieldError("body", string(body), "send it in one piece"))
	case err != nil:
		return nil, badBody.with("the body ended before it was complete", fieldError("body", string(body), "send as much as Content-Length says"))
	}
	// A deadline that passes while the answer is in the making would end the request's context.
	if err := patience.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("lift the read time-out: %w", err)
	}
	return body, nil
}

// isJSON refuses bodies that call themselves something else.
func isJSON(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return wrongType.with("the body is compressed", fieldError("Content-Encoding", encoding, "send it as it is"))
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(given)
	charset := strings.ToLower(parameters["charset"])
	if err != nil || mediaType != jsonType || charset != "" && charset != "utf-8" {
		return wrongType.with("the body must be JSON", fieldError("Content-Type", given, "send Content-Type: "+jsonType))
	}
	return nil
}

// parseAcquisition reads the body of a new acquisition. Whether it can be carried out is for the Commander to say.
func parseAcquisition(body []byte) (protocol.AcquisitionRequest, error) {
	members, err := parseObject(body, `{"frequency_hz": 145500000, "duration_s": 5}`)
	if err != nil {
		return protocol.AcquisitionRequest{}, err
	}
	return members.acquisition()
}

// object is the members of a JSON object whose faults are collected.
type object struct {
	members map[string]json.RawMessage
	names   []string // in the order of the body
	used    map[string]bool
	faults  protocol.FieldErrors
}

// parseObject splits one JSON object into its members; the example tells what to send instead of none.
func parseObject(body []byte, example string) (*object, error) {
	shown := fieldError("body", string(body), "send a JSON object such as "+example)
	if !utf8.Valid(body) {
		return nil, badBody.with("the body is not UTF-8", shown)
	}
	if err := json.Unmarshal(body, new(map[string]json.RawMessage)); err != nil {
		return nil, badBody.with("the body is not a JSON object: "+err.Error(), shown)
	}
	if bytes.TrimSpace(body)[0] != '{' {
		return nil, badBody.with("the body is not a JSON object", shown)
	}
	o := &object{members: map[string]json.RawMessage{}, used: map[string]bool{}}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return nil, badBody.with(err.Error(), shown)
	}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil || !ok {
			return nil, badBody.with("the body is not a JSON object", shown)
		}
		if _, twice := o.members[name]; twice {
			o.fault(name, string(value), "give it once")
			continue
		}
		o.members[name] = value
		o.names = append(o.names, name)
	}
	return o, nil
}

func (o *object) fault(field, value, message string) {
	if len(o.faults) < mostFaults {
		o.faults = append(o.faults, protocol.FieldError{Field: field, Value: value, Message: message})
	}
}

// take gives a member and marks it as known. A null is an absent member.
func (o *object) take(name string) (json.RawMessage, bool) {
	o.used[name] = true
	value, ok := o.members[name]
	return value, ok && string(value) != "null"
}

const (
	positiveAdvice = frequencyForms + ", above 0 and up to 1e12"
	priorityAdvice = "write a whole number from -2147483648 to 2147483647"
)

var durationAdvice = fmt.Sprintf("write seconds such as 5 or 0.25, or text such as \"250ms\", from %v to %v", protocol.MinAcquisitionS, protocol.MaxAcquisitionS)

func (o *object) acquisition() (protocol.AcquisitionRequest, error) {
	var a protocol.AcquisitionRequest
	a.FrequencyHz = o.quantity("frequency_hz", true, positiveAdvice, parsePositive)
	a.DurationS = o.quantity("duration_s", true, durationAdvice, parseDuration)
	if hz := o.quantity("bandwidth_hz", false, positiveAdvice, parsePositive); hz > 0 {
		a.BandwidthHz = &hz
	}
	a.StartTime = o.time("start_time")
	a.Stations = o.stations("stations")
	o.read("iq", &a.IQ, "write true or false")
	o.read("priority", &a.Priority, priorityAdvice)
	a.Label = o.label("label")
	if a.Priority < math.MinInt32 || a.Priority > math.MaxInt32 {
		o.fault("priority", fmt.Sprint(a.Priority), priorityAdvice)
	}
	o.refuseOthers("frequency_hz, duration_s, bandwidth_hz, start_time, stations, iq, priority, label")
	if len(o.faults) > 0 {
		return protocol.AcquisitionRequest{}, badField.faulty(o.faults)
	}
	return a, nil
}

// refuseOthers finds fault with every member that was not taken.
func (o *object) refuseOthers(known string) {
	for _, name := range o.names {
		if !o.used[name] {
			o.fault(name, string(o.members[name]), "no such member; known are "+known)
		}
	}
}

// label reads a short text; empty when absent or wrong.
func (o *object) label(name string) string {
	var label string
	o.read(name, &label, "write text")
	if len(label) > longestLabel || strings.ContainsFunc(label, unicode.IsControl) {
		o.fault(name, label, fmt.Sprintf("write at most %d bytes without control characters", longestLabel))
		return ""
	}
	return label
}

// read decodes a member into a Go value.
func (o *object) read(name string, into any, advice string) {
	value, ok := o.take(name)
	if ok && json.Unmarshal(value, into) != nil {
		o.fault(name, string(value), advice)
	}
}

// quantity reads a number above 0, or text with a unit; 0 when absent or wrong. The advice says in what range parse takes it.
func (o *object) quantity(name string, required bool, advice string, parse func(string) (float64, bool)) float64 {
	value, ok := o.take(name)
	if !ok {
		if required {
			o.fault(name, string(o.members[name]), "is missing: "+advice)
		}
		return 0
	}
	text, ok := quantityText(value)
	v, fits := parse(text)
	if !ok || !fits {
		o.fault(name, string(value), advice)
		return 0
	}
	return v
}

// quantityText is a number or a text, as text.
func quantityText(value json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text, true
	}
	var number json.Number
	err := json.Unmarshal(value, &number)
	return number.String(), err == nil
}

// parsePositive reads a frequency or a width above 0.
func parsePositive(text string) (float64, bool) {
	hz, ok := parseFrequency(text)
	return hz, ok && hz > 0
}

// parseDuration reads how long an acquisition lasts, in seconds.
func parseDuration(text string) (float64, bool) {
	seconds, ok := parseSeconds(text)
	return seconds, ok && seconds >= protocol.MinAcquisitionS && seconds <= protocol.MaxAcquisitionS
}

// parseSeconds reads a duration in seconds.
func parseSeconds(text string) (float64, bool) {
	var d configs.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return 0, false
	}
	return d.Seconds(), true
}

// time reads an RFC 3339 time and writes it as everywhere; empty when absent or wrong.
func (o *object) time(name string) string {
	var text string
	o.read(name, &text, "write a time like "+timeExample)
	if value, given := o.take(name); !given || text == "" && string(value) != `""` {
		return "" // absent, or found fault with above
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1970 || t.Year() > 2200 {
		o.fault(name, text, "write a time like "+timeExample)
		return ""
	}
	return protocol.FormatTime(t)
}

// stations reads a list of station ids.
func (o *object) stations(name string) []string {
	var ids []string
	o.read(name, &ids, `write a list such as ["giaveno", "torino"], or leave it out for all that take orders`)
	if _, given := o.take(name); given && ids != nil && len(ids) == 0 {
		o.fault(name, "[]", "name at least one, or leave it out for all that take orders")
	}
	if len(ids) > mostStations {
		o.fault(name, fmt.Sprintf("%d stations", len(ids)), fmt.Sprintf("name at most %d, or leave it out for all", mostStations))
		return nil
	}
	seen := map[string]bool{}
	for i, id := range ids {
		field := fmt.Sprintf("%s[%d]", name, i)
		switch {
		case protocol.ValidStation(id) != nil:
			o.fault(field, id, stationAdvice)
		case seen[id]:
			o.fault(field, id, "give it once")
		}
		seen[id] = true
	}
	return ids
}
