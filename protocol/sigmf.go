package protocol

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// SigMFVersion is the version of SigMF that is written.
const SigMFVersion = "1.2.5"

// MaxSigMFBytes is the most bytes of metadata that are read: a quarter of a million annotations or so.
const MaxSigMFBytes = 64 << 20

// sigmfNamespace is the prefix of our own members, and the name of the extension that declares them.
const (
	sigmfNamespace        = "heimdall"
	sigmfNamespaceVersion = "1.0.0"
)

// SigMF is the metadata of a recording, as in its .sigmf-meta file. Members that have no field here are in Extra, as
// they were, at each level: reading and writing loses none.
type SigMF struct {
	Global      SigMFGlobal
	Captures    []SigMFCapture
	Annotations []SigMFAnnotation
	Extra       map[string]json.RawMessage
}

// SigMFGlobal is what holds for the whole recording.
type SigMFGlobal struct {
	Datatype      string           `json:"core:datatype"` // cu8, ci8, ci16_le, cf32_le, ...
	SampleRateHz  *float64         `json:"core:sample_rate,omitempty"`
	Version       string           `json:"core:version"`
	NumChannels   *uint64          `json:"core:num_channels,omitempty"` // 1 when absent
	SHA512        string           `json:"core:sha512,omitempty"`       // hex, of the data file
	Offset        *uint64          `json:"core:offset,omitempty"`       // index of the file's first sample in a longer recording
	Description   string           `json:"core:description,omitempty"`
	Author        string           `json:"core:author,omitempty"`
	License       string           `json:"core:license,omitempty"` // URL
	Hardware      string           `json:"core:hw,omitempty"`
	Recorder      string           `json:"core:recorder,omitempty"` // program/version
	Dataset       string           `json:"core:dataset,omitempty"`  // name of a data file that is no .sigmf-data
	TrailingBytes *uint64          `json:"core:trailing_bytes,omitempty"`
	MetadataOnly  *bool            `json:"core:metadata_only,omitempty"`
	Collection    string           `json:"core:collection,omitempty"`
	Geolocation   *GeoPoint        `json:"core:geolocation,omitempty"`
	Extensions    []SigMFExtension `json:"core:extensions,omitempty"`
	SigMFStation
	Extra map[string]json.RawMessage `json:"-"`
}

// SigMFStation is our own namespace: where a recording comes from and how well its times are known.
type SigMFStation struct {
	Station              string     `json:"heimdall:station,omitempty"`
	Receiver             string     `json:"heimdall:receiver,omitempty"`
	Acquisition          string     `json:"heimdall:acquisition,omitempty"`
	CaptureID            string     `json:"heimdall:capture_id,omitempty"`
	TimeQuality          string     `json:"heimdall:time_quality,omitempty"` // short name: gnss, ntp, system, ...
	TimeUncertaintyS     *float64   `json:"heimdall:time_uncertainty_s,omitempty"`
	AskedStart           *Timestamp `json:"heimdall:asked_start,omitempty"`
	GeolocationPrecision string     `json:"heimdall:geolocation_precision,omitempty"` // exact, or 10km: the centre of a cell
	LostSamples          *uint64    `json:"heimdall:lost_samples,omitempty"`
	GainDB               *float64   `json:"heimdall:gain_db,omitempty"`
	TunedCenterHz        *float64   `json:"heimdall:tuned_center_hz,omitempty"` // of the receiver, where the recording is a part of its passband
	TunedRateHz          *float64   `json:"heimdall:tuned_sample_rate_hz,omitempty"`
	Scale                *float64   `json:"heimdall:scale,omitempty"` // multiply by it to get the receiver's full scale; 1 when absent
}

// SigMFCapture is a contiguous stretch of the recording: a gap or a retune begins the next.
type SigMFCapture struct {
	SampleStart uint64                     `json:"core:sample_start"`
	GlobalIndex *uint64                    `json:"core:global_index,omitempty"` // of its first sample, lost ones counted
	HeaderBytes *uint64                    `json:"core:header_bytes,omitempty"`
	FrequencyHz *float64                   `json:"core:frequency,omitempty"` // centre
	Datetime    *Timestamp                 `json:"core:datetime,omitempty"`  // of its first sample
	Geolocation *GeoPoint                  `json:"core:geolocation,omitempty"`
	LostExact   *bool                      `json:"heimdall:lost_exact,omitempty"` // the samples lost before it were counted, not estimated
	Extra       map[string]json.RawMessage `json:"-"`
}

// SigMFAnnotation is a labelled box in time and frequency.
type SigMFAnnotation struct {
	SampleStart uint64                     `json:"core:sample_start"`
	SampleCount *uint64                    `json:"core:sample_count,omitempty"`    // to the end of the capture when absent
	LowHz       *float64                   `json:"core:freq_lower_edge,omitempty"` // both edges or none
	HighHz      *float64                   `json:"core:freq_upper_edge,omitempty"`
	Label       string                     `json:"core:label,omitempty"` // under 20 characters
	Comment     string                     `json:"core:comment,omitempty"`
	Generator   string                     `json:"core:generator,omitempty"`
	UUID        string                     `json:"core:uuid,omitempty"`
	SNRDB       *float64                   `json:"heimdall:snr_db,omitempty"`
	PowerDBFS   *float64                   `json:"heimdall:power_dbfs,omitempty"`
	Extra       map[string]json.RawMessage `json:"-"`
}

// SigMFExtension declares a namespace.
type SigMFExtension struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Optional bool   `json:"optional"`
}

// GeoPoint is a GeoJSON point: longitude, latitude and, where known, height above the ellipsoid in metres.
type GeoPoint struct {
	Type        string    `json:"type"` // Point
	Coordinates []float64 `json:"coordinates"`
}

// NewGeoPoint is a place on WGS 84; heightM may be nil.
func NewGeoPoint(latitudeDeg, longitudeDeg float64, heightM *float64) *GeoPoint {
	p := &GeoPoint{Type: "Point", Coordinates: []float64{longitudeDeg, latitudeDeg}}
	if heightM != nil {
		p.Coordinates = append(p.Coordinates, *heightM)
	}
	return p
}

// ReadSigMF reads metadata and checks it. The error is an *Error, FieldErrors, or that of r.
func ReadSigMF(r io.Reader) (*SigMF, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSigMFBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSigMFBytes {
		return nil, refuse(CodeTooLarge, "", nil, "more than %d bytes of metadata", MaxSigMFBytes)
	}
	meta, err := DecodeSigMF(data)
	if err != nil {
		return nil, err
	}
	return meta, meta.Validate()
}

// DecodeSigMF reads metadata without checking more than its form. The error is an *Error whose field has its path:
// captures[2].core:frequency.
func DecodeSigMF(data []byte) (*SigMF, error) {
	var top struct {
		Global      json.RawMessage   `json:"global"`
		Captures    []json.RawMessage `json:"captures"`
		Annotations []json.RawMessage `json:"annotations"`
	}
	s := new(SigMF)
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some Windows programs begin UTF-8 with a byte order mark
	if err := decodeMembers("", data, &top, &s.Extra); err != nil {
		return nil, err
	}
	if top.Global == nil {
		return nil, refuse(CodeMalformed, "global", nil, "missing: this is no SigMF metadata")
	}
	if err := decodeMembers("global", top.Global, &s.Global, &s.Global.Extra); err != nil {
		return nil, err
	}
	s.Captures = make([]SigMFCapture, len(top.Captures))
	for i, raw := range top.Captures {
		c := &s.Captures[i]
		if err := decodeMembers("captures["+strconv.Itoa(i)+"]", raw, c, &c.Extra); err != nil {
			return nil, err
		}
	}
	s.Annotations = make([]SigMFAnnotation, len(top.Annotations))
	for i, raw := range top.Annotations {
		a := &s.Annotations[i]
		if err := decodeMembers("annotations["+strconv.Itoa(i)+"]", raw, a, &a.Extra); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// decodeMembers reads a JSON object into a struct, and the members the struct has no field for into extra.
func decodeMembers(path string, data []byte, into any, extra *map[string]json.RawMessage) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return badJSON(path, data, err)
	}
	for _, f := range memberFields(into) {
		raw, ok := members[f.name]
		delete(members, f.name)
		if !ok || string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, f.value.Addr().Interface()); err != nil && !setWhole(f.value, raw) {
			return refuse(CodeMalformed, join(path, f.name), []byte(raw), "want %s", wanted(f.value.Type(), err))
		}
	}
	if len(members) > 0 {
		*extra = members
	}
	return nil
}

// setWhole sets a count from a number like 1024.0 or 1e6, as some programs write them.
func setWhole(field reflect.Value, raw []byte) bool {
	n, err := readUint("", raw, 64)
	if err != nil || raw[0] == '"' {
		return false
	}
	switch p := field.Addr().Interface().(type) {
	case *uint64:
		*p = n
	case **uint64:
		*p = &n
	default:
		return false
	}
	return true
}

// wanted says what a member should have been.
func wanted(t reflect.Type, err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return strings.TrimPrefix(e.Message, "want ")
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Float64:
		return "a number"
	case reflect.Uint64:
		return "a whole number from 0"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array of objects"
	default:
		return "an object"
	}
}

type memberField struct {
	name      string
	value     reflect.Value
	omitEmpty bool
}

// memberFields lists the fields of the struct that p points to, under their JSON names, embedded ones too.
func memberFields(p any) []memberField {
	v := reflect.ValueOf(p).Elem()
	var fields []memberField
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields = append(fields, memberField{name, v.FieldByIndex(f.Index), option == "omitempty"})
		}
	}
	return fields
}

// Encode writes the metadata as a .sigmf-meta file: captures and annotations in the order of their samples, our
// extension declared where it is used. It fails on what JSON cannot hold.
func (s *SigMF) Encode() ([]byte, error) {
	global := s.Global
	global.Extensions = s.extensions()
	captures := slices.SortedStableFunc(slices.Values(s.Captures), func(a, b SigMFCapture) int { return cmp.Compare(a.SampleStart, b.SampleStart) })
	annotations := slices.SortedStableFunc(slices.Values(s.Annotations), func(a, b SigMFAnnotation) int { return cmp.Compare(a.SampleStart, b.SampleStart) })

	var out bytes.Buffer
	out.WriteString(`{"global":`)
	if err := encodeMembers(&out, &global, global.Extra); err != nil {
		return nil, err
	}
	out.WriteString(`,"captures":[`)
	for i := range captures {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := encodeMembers(&out, &captures[i], captures[i].Extra); err != nil {
			return nil, err
		}
	}
	out.WriteString(`],"annotations":[`)
	for i := range annotations {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := encodeMembers(&out, &annotations[i], annotations[i].Extra); err != nil {
			return nil, err
		}
	}
	out.WriteByte(']')
	if err := encodeExtra(&out, s.Extra); err != nil {
		return nil, err
	}
	out.WriteByte('}')
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, out.Bytes(), "", "    "); err != nil {
		return nil, err
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

// encodeMembers writes a struct and the extra members after its own, by name.
func encodeMembers(out *bytes.Buffer, from any, extra map[string]json.RawMessage) error {
	out.WriteByte('{')
	first := true
	for _, f := range memberFields(from) {
		if f.omitEmpty && (f.value.IsZero() || f.value.Kind() == reflect.Slice && f.value.Len() == 0) {
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		if err := encodeMember(out, f.name, f.value.Interface()); err != nil {
			return err
		}
	}
	if err := encodeExtra(out, extra); err != nil {
		return err
	}
	out.WriteByte('}')
	return nil
}

// encodeExtra writes members after others.
func encodeExtra(out *bytes.Buffer, extra map[string]json.RawMessage) error {
	names := make([]string, 0, len(extra))
	for name := range extra {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out.WriteByte(',')
		if err := encodeMember(out, name, extra[name]); err != nil {
			return err
		}
	}
	return nil
}

func encodeMember(out *bytes.Buffer, name string, value any) error {
	w := jsonWriter{}
	w.string(name)
	out.Write(w.b)
	out.WriteByte(':')
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return refuse(CodeMalformed, name, nil, "cannot be written as JSON: %v", err)
	}
	return nil
}

// extensions declares our namespace where it is used.
func (s *SigMF) extensions() []SigMFExtension {
	used := !reflect.ValueOf(s.Global.SigMFStation).IsZero() ||
		slices.ContainsFunc(s.Captures, func(c SigMFCapture) bool { return c.LostExact != nil }) ||
		slices.ContainsFunc(s.Annotations, func(a SigMFAnnotation) bool { return a.SNRDB != nil || a.PowerDBFS != nil })
	if !used {
		return s.Global.Extensions
	}
	return declareExtension(s.Global.Extensions)
}

// declareExtension adds our namespace to those that are declared.
func declareExtension(declared []SigMFExtension) []SigMFExtension {
	if slices.ContainsFunc(declared, func(e SigMFExtension) bool { return e.Name == sigmfNamespace }) {
		return declared
	}
	return append(slices.Clone(declared), SigMFExtension{Name: sigmfNamespace, Version: sigmfNamespaceVersion, Optional: true})
}
