package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulgidus/heimdall/protocol"
)

// schemas makes the components of the OpenAPI document out of the types that are sent and the messages that are stored.
type schemas struct {
	components map[string]any
}

// schemaName is the component of a message: Measurement.
func schemaName(kind protocol.Kind) string {
	return strings.ToUpper(string(kind[:1])) + string(kind[1:])
}

func reference(name string) map[string]any {
	return map[string]any{"$ref": "#/components/schemas/" + name}
}

func allSchemas() map[string]any {
	s := &schemas{components: map[string]any{}}
	for _, example := range []any{
		Root{},
		Alive{},
		Readiness{},
		Problem{},
		protocol.Station{},
		protocol.AcquisitionRequest{},
		CaptureRequest{},
		protocol.Acquisition{},
		protocol.Recording{},
		TokenRequest{},
		MadeToken{},
		protocol.AuditEntry{},
		protocol.EnrolmentRequest{},
		protocol.RenewalRequest{},
		protocol.Enrolment{},
		CodeRequest{},
		protocol.MintedCode{},
		AccountRequest{},
		protocol.Account{},
		protocol.NewAccount{},
		protocol.RevokedAccount{},
	} {
		s.goType(reflect.TypeOf(example))
	}
	for _, name := range []string{"Station", "Acquisition", "Recording", "Token", "AuditEntry", "Account"} {
		s.list(name)
	}
	s.old()
	for _, l := range listedKinds() {
		s.record(l.kind)
	}
	s.refine()
	return s.components
}

// list adds the component of a page.
func (s *schemas) list(item string) {
	s.components[item+"List"] = map[string]any{
		"type": "object", "required": []string{"items"},
		"properties": map[string]any{
			"items":       map[string]any{"type": "array", "items": reference(item)},
			"next_cursor": map[string]any{"type": "string", "description": "For the next page; absent on the last."},
		},
	}
}

// old adds the components of the former service's addresses.
func (s *schemas) old() {
	for _, example := range []any{
		OldAlive{},
		OldReadiness{},
		OldConfiguration{},
		OldAcquire{},
		OldTask{},
		OldStatus{},
		OldWebSDR{},
		OldWebSDRDetail{},
		OldWebSDRHealth{},
		protocol.WebSDRFields{},
	} {
		s.goType(reflect.TypeOf(example))
	}
	for _, item := range []string{"OldWebSDR", "OldWebSDRDetail"} {
		s.components[item+"List"] = map[string]any{"type": "array", "items": reference(item)}
	}
	s.components["OldWebSDRHealthMap"] = map[string]any{"type": "object", "additionalProperties": reference("OldWebSDRHealth")}
	for component, members := range map[string][]string{
		"OldAcquire": {"start_time", "websdrs"}, "OldStatus": {"errors", "result"}, "OldMeasurement": {"sample_rate_khz", "samples_count", "iq_data_path"},
		"OldMetrics": {"snr_db", "psd_dbm", "frequency_offset_hz", "signal_power_dbm", "noise_power_dbm"},
		"OldWebSDR":  {"latitude", "longitude"}, "OldWebSDRDetail": {"latitude", "longitude"}, "OldWebSDRHealth": {"avg_snr"},
	} {
		for _, member := range members {
			s.nullable(component, member)
		}
	}
}

// nullable lets a member be null.
func (s *schemas) nullable(component, member string) {
	properties := s.components[component].(map[string]any)["properties"].(map[string]any)
	schema := properties[member].(map[string]any)
	if _, ok := schema["$ref"]; ok {
		properties[member] = map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
		return
	}
	schema["type"] = []string{schema["type"].(string), "null"}
}

// goType is the schema of a Go type; a struct becomes a component.
func (s *schemas) goType(t reflect.Type) map[string]any {
	if t == reflect.TypeFor[json.RawMessage]() {
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.goType(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.goType(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.goType(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
		return s.goStruct(t)
	default: // whole numbers; the types have no others
		return map[string]any{"type": "integer"}
	}
}

func (s *schemas) goStruct(t reflect.Type) map[string]any {
	name := t.Name()
	if _, known := s.components[name]; known {
		return reference(name)
	}
	properties, required := map[string]any{}, []string{}
	component := map[string]any{"type": "object", "properties": properties}
	s.components[name] = component
	for i := range t.NumField() {
		field := t.Field(i)
		member, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if member == "-" {
			continue // it is not sent
		}
		properties[member] = described(member, s.goType(field.Type))
		if !strings.Contains(options, "omitempty") {
			required = append(required, member)
		}
	}
	component["required"] = required
	return reference(name)
}

// record adds the components of a kind of record as it stands in a list.
func (s *schemas) record(kind protocol.Kind) {
	fields := (&protocol.Record{}).ProtoReflect().Descriptor().Fields()
	properties := map[string]any{
		"received": map[string]any{"type": "string", "format": "date-time", "description": "When the collector stored it."},
		"late":     map[string]any{"type": "boolean", "description": "Older than a minute when it arrived."},
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.ContainingOneof() == nil || fd.ContainingOneof().IsSynthetic() || string(fd.Name()) == string(kind) {
			properties[string(fd.Name())] = described(string(fd.Name()), s.field(fd))
		}
	}
	name := schemaName(kind) + "Record"
	s.components[name] = map[string]any{
		"type": "object", "required": []string{"station", "spool", "seq", "time", "received", string(kind)}, "properties": properties,
	}
	s.list(name)
}

// message adds the component of a message. All its members may be absent.
func (s *schemas) message(md protoreflect.MessageDescriptor) map[string]any {
	if md.Name() == "SeqRange" {
		return map[string]any{
			"type": "array", "items": map[string]any{"type": "integer"}, "minItems": 2, "maxItems": 2,
			"description": "First and last sequence number.",
		}
	}
	name := string(md.Name())
	if _, known := s.components[name]; known {
		return reference(name)
	}
	properties := map[string]any{}
	s.components[name] = map[string]any{"type": "object", "properties": properties}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		properties[string(fd.Name())] = described(string(fd.Name()), s.field(fd))
	}
	if name == "Spectrum" { // in JSON the levels are numbers
		for member := range properties {
			if codesLevels(member) {
				delete(properties, member)
			}
		}
		properties["dbfs_hz"] = map[string]any{
			"type": "array", "items": map[string]any{"type": "number"}, "description": "Power spectral density of each bin in dBFS per Hz.",
		}
	}
	return reference(name)
}

// codesLevels tells whether a spectrum's field is one of those that dbfs_hz stands for in JSON.
func codesLevels(member string) bool {
	switch member {
	case "offset_dbfs_hz", "resolution_db", "bins", "codec", "levels":
		return true
	}
	return false
}

func (s *schemas) field(fd protoreflect.FieldDescriptor) map[string]any {
	schema := s.scalar(fd)
	if fd.IsList() {
		return map[string]any{"type": "array", "items": schema}
	}
	return schema
}

func (s *schemas) scalar(fd protoreflect.FieldDescriptor) map[string]any {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return s.message(fd.Message())
	case protoreflect.EnumKind:
		return map[string]any{"type": "string", "enum": shortNames(fd.Enum())}
	case protoreflect.Sfixed64Kind:
		return map[string]any{"type": "string", "format": "date-time"}
	case protoreflect.StringKind:
		return map[string]any{"type": "string"}
	case protoreflect.BytesKind:
		return map[string]any{"type": "string"}
	case protoreflect.BoolKind:
		return map[string]any{"type": "boolean"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return map[string]any{"type": "number"}
	default: // whole numbers; the messages have no others
		return map[string]any{"type": "integer"}
	}
}

// shortNames are an enum's names in JSON, without the one that stands for unknown.
func shortNames(ed protoreflect.EnumDescriptor) []string {
	prefix := strings.TrimSuffix(string(ed.Values().Get(0).Name()), "UNSPECIFIED")
	names := make([]string, 0, ed.Values().Len())
	for i := 1; i < ed.Values().Len(); i++ {
		names = append(names, strings.ToLower(strings.TrimPrefix(string(ed.Values().Get(i).Name()), prefix)))
	}
	return names
}

// described adds the unit that a member's name ends in.
func described(member string, schema map[string]any) map[string]any {
	for _, unit := range []struct{ suffix, text string }{
		{"_dbfs_hz", "dBFS per Hz"},
		{"psd_dbm", "dBm per Hz"},
		{"_dbm_hz", "dBm per Hz"},
		{"_dbfs", "dBFS"},
		{"_dbm", "dBm"},
		{"_db", "dB"},
		{"_hz", "Hz"},
		{"_deg", "degrees (WGS 84)"},
		{"_ppm", "parts per million"},
		{"_m", "metres"},
		{"_s", "seconds"},
		{"_c", "°C"},
	} {
		if strings.HasSuffix(member, unit.suffix) {
			schema["description"] = "In " + unit.text + "."
			break
		}
	}
	switch member {
	case "time", "start", "asked_start", "start_time", "requested", "stored", "timestamp", "cancel_requested", "next_attempt", "earliest_start":
		schema["format"] = "date-time"
	case "history_from":
		schema["format"], schema["description"] = "date-time", "IQ since then can be recorded; absent while that is not known."
	case "spool":
		schema["pattern"] = "^[0-9a-f]{16}$"
	}
	return schema
}

// boundsOf are the limits of a member that is a number or, which they do not hold for, text with a unit.
func boundsOf(member string) map[string]any {
	switch member {
	case "duration_s":
		return map[string]any{"minimum": protocol.MinAcquisitionS, "maximum": protocol.MaxAcquisitionS}
	case "before_s", "after_s":
		return map[string]any{"minimum": 0, "maximum": mostAroundS}
	}
	return map[string]any{"exclusiveMinimum": 0, "maximum": highestHz}
}

// refine adds what the types do not say.
func (s *schemas) refine() {
	enum := func(component, member string, words ...string) {
		if c, ok := s.components[component].(map[string]any); ok {
			c["properties"].(map[string]any)[member].(map[string]any)["enum"] = words
		}
	}
	enum("Acquisition", "state", "queued", "running", "done", "failed", "cancelled")
	enum("AcquisitionStation", "state", "queued", "sent", "accepted", "capturing", "uploading", "done", "refused", "failed", "expired", "cancelled")
	enum("Station", "status", "online", "offline")
	enum("TokenRequest", "role", "viewer", "operator", "admin")
	enum("Token", "role", "viewer", "operator", "admin")
	enum("Position", "precision", "exact", "10km")
	for _, name := range []string{"AcquisitionRequest", "CaptureRequest", "TokenRequest"} {
		c, ok := s.components[name].(map[string]any)
		if !ok {
			continue
		}
		c["additionalProperties"] = false
		properties := c["properties"].(map[string]any)
		for _, member := range []string{"frequency_hz", "bandwidth_hz", "duration_s", "before_s", "after_s"} {
			if property, ok := properties[member].(map[string]any); ok {
				property["type"] = []string{"number", "string"}
				maps.Copy(property, boundsOf(member))
			}
		}
		if label, ok := properties["label"].(map[string]any); ok {
			label["maxLength"] = longestLabel
		}
		properties["stations"].(map[string]any)["maxItems"] = mostStations
	}
}
