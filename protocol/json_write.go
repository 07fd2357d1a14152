package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MarshalJSON writes a Record, Ack, Command or any part of one in the JSON form for people: the fields present, in
// the order of heimdall.proto, under its names. Times are RFC 3339, UTC, with 9 decimals; spool and sha512 hex; other
// bytes base64; numbers numbers; enums short and lower case; a range of sequence numbers [from,to]; a spectrum's levels
// dbfs_hz, tenths of a dB. What is not finite is left out, as unknown.
func MarshalJSON(m proto.Message) ([]byte, error) {
	if m == nil || !m.ProtoReflect().IsValid() {
		return nil, refuse(CodeMalformed, "", nil, "no message")
	}
	w := &jsonWriter{b: make([]byte, 0, 512)}
	w.message(m.ProtoReflect())
	return w.b, nil
}

// Member is one more member of a JSON object: received, late, file, start_s.
type Member struct {
	Name  string
	Value any // a time.Time is written as the dialect does, anything else as encoding/json does
}

// AppendMembers adds members at the end of a JSON object.
func AppendMembers(object []byte, members ...Member) ([]byte, error) {
	n := len(object)
	if n < 2 || object[0] != '{' || object[n-1] != '}' {
		return nil, refuse(CodeMalformed, "", object, "want a JSON object to add members to")
	}
	w := &jsonWriter{b: append(make([]byte, 0, n+64), object[:n-1]...)}
	for _, m := range members {
		if err := w.extra(m); err != nil {
			return nil, err
		}
	}
	return append(w.b, '}'), nil
}

// FlatJSON writes a record as one flat object, as `heimdall-agent measure --json` prints it: kind, then the extra
// members, then the fields of the record, those of its body among them. A body's field named like one of the record's
// has the kind before it (gap_spool).
func FlatJSON(rec *Record, extra ...Member) ([]byte, error) {
	kind := rec.Kind()
	if kind == "" {
		return nil, refuse(CodeUnknownKind, "", nil, "a record without a body")
	}
	w := &jsonWriter{b: append(make([]byte, 0, 512), '{')}
	for _, m := range append([]Member{{"kind", string(kind)}}, extra...) {
		if err := w.extra(m); err != nil {
			return nil, err
		}
	}
	r := rec.ProtoReflect()
	fields := r.Descriptor().Fields()
	body := r.WhichOneof(r.Descriptor().Oneofs().ByName("body"))
	before := func(fd protoreflect.FieldDescriptor) bool {
		return fd.Name() != "time_quality" && fd.Name() != "time_uncertainty_s"
	}
	for i := range fields.Len() {
		if fd := fields.Get(i); fd != body && before(fd) && r.Has(fd) {
			w.member(fd, r.Get(fd), "")
		}
	}
	w.body(r.Get(body).Message(), func(fd protoreflect.FieldDescriptor) string {
		if fields.ByName(fd.Name()) != nil {
			return string(kind) + "_"
		}
		return ""
	})
	for i := range fields.Len() {
		if fd := fields.Get(i); fd != body && !before(fd) && r.Has(fd) {
			w.member(fd, r.Get(fd), "")
		}
	}
	return append(w.b, '}'), nil
}

// jsonWriter appends JSON to b.
type jsonWriter struct {
	b []byte
}

func (w *jsonWriter) comma() {
	if c := w.b[len(w.b)-1]; c != '{' && c != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *jsonWriter) extra(m Member) error {
	value := m.Value
	if t, ok := value.(time.Time); ok {
		value = FormatTime(t)
	}
	v, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Name, err)
	}
	w.comma()
	w.string(m.Name)
	w.b = append(append(w.b, ':'), v...)
	return nil
}

func (w *jsonWriter) message(m protoreflect.Message) {
	if r, ok := m.Interface().(*SeqRange); ok && r.From != nil && r.To != nil {
		w.b = append(w.b, '[')
		w.b = strconv.AppendUint(w.b, r.GetFrom(), 10)
		w.b = append(w.b, ',')
		w.b = strconv.AppendUint(w.b, r.GetTo(), 10)
		w.b = append(w.b, ']')
		return
	}
	w.b = append(w.b, '{')
	w.body(m, func(protoreflect.FieldDescriptor) string { return "" })
	w.b = append(w.b, '}')
}

// body writes the members of a message, each name after its prefix.
func (w *jsonWriter) body(m protoreflect.Message, prefix func(protoreflect.FieldDescriptor) string) {
	var levels []float64
	if s, ok := m.Interface().(*Spectrum); ok {
		levels, _ = s.LevelsDBFSHz() // what cannot be decoded is written as it is
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) || levels != nil && codesLevels(fd) {
			continue
		}
		w.member(fd, m.Get(fd), prefix(fd))
	}
	if levels != nil {
		w.levels(levels)
	}
}

// codesLevels tells whether a spectrum's field is one of those that dbfs_hz stands for.
func codesLevels(fd protoreflect.FieldDescriptor) bool {
	switch fd.Name() {
	case "offset_dbfs_hz", "resolution_db", "bins", "codec", "levels":
		return true
	}
	return false
}

func (w *jsonWriter) levels(levels []float64) {
	w.comma()
	w.b = append(w.b, `"dbfs_hz":[`...)
	for i, v := range levels {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = strconv.AppendFloat(w.b, math.Round(v*10)/10, 'f', -1, 64)
	}
	w.b = append(w.b, ']')
}

// member writes a field that is present.
func (w *jsonWriter) member(fd protoreflect.FieldDescriptor, v protoreflect.Value, prefix string) {
	if k := fd.Kind(); k == protoreflect.FloatKind || k == protoreflect.DoubleKind {
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return
		}
	}
	w.comma()
	w.string(prefix + string(fd.Name()))
	w.b = append(w.b, ':')
	if !fd.IsList() {
		w.value(fd, v)
		return
	}
	w.b = append(w.b, '[')
	for i := range v.List().Len() {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.value(fd, v.List().Get(i))
	}
	w.b = append(w.b, ']')
}

func (w *jsonWriter) value(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		w.message(v.Message())
	case protoreflect.EnumKind:
		if short := enumShort(fd.Enum(), v.Enum()); fd.Enum().Values().ByNumber(v.Enum()) != nil {
			w.string(short)
		} else {
			w.b = append(w.b, short...)
		}
	case protoreflect.BytesKind:
		w.b = append(w.b, '"')
		if isHex(fd) {
			w.b = hex.AppendEncode(w.b, v.Bytes())
		} else {
			w.b = base64.StdEncoding.AppendEncode(w.b, v.Bytes())
		}
		w.b = append(w.b, '"')
	case protoreflect.StringKind:
		w.string(v.String())
	case protoreflect.BoolKind:
		w.b = strconv.AppendBool(w.b, v.Bool())
	case protoreflect.Sfixed64Kind:
		w.string(formatTime(v.Int()))
	case protoreflect.FloatKind:
		w.float(v.Float(), 32)
	case protoreflect.DoubleKind:
		w.float(v.Float(), 64)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		w.b = strconv.AppendUint(w.b, v.Uint(), 10)
	default: // int32; the schema has no other
		w.b = strconv.AppendInt(w.b, v.Int(), 10)
	}
}

// isHex tells whether a bytes field is written as hex digits.
func isHex(fd protoreflect.FieldDescriptor) bool {
	return fd.Name() == "spool" || fd.Name() == "sha512"
}

// float writes the shortest number that reads back the same, as encoding/json does.
func (w *jsonWriter) float(f float64, bits int) {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	w.b = strconv.AppendFloat(w.b, f, format, -1, bits)
}

// string writes a quoted string; what is not UTF-8 becomes U+FFFD.
func (w *jsonWriter) string(s string) {
	w.b = append(w.b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', c)
			i++
		case c == '\n':
			w.b = append(w.b, '\\', 'n')
			i++
		case c < ' ':
			const digits = "0123456789abcdef"
			w.b = append(w.b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			i++
		case c < utf8.RuneSelf:
			w.b = append(w.b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			w.b = utf8.AppendRune(w.b, r)
			i += n
		}
	}
	w.b = append(w.b, '"')
}
