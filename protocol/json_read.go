package protocol

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// UnmarshalJSON replaces m with what MarshalJSON wrote, or with protobuf's own JSON: names in camelCase, numbers as
// strings, full enum names, base64. Members and enum names it does not know are skipped, null is absent. Every failure
// is an *Error; m is then undefined.
func UnmarshalJSON(data []byte, m proto.Message) error {
	proto.Reset(m)
	if !utf8.Valid(data) {
		return refuse(CodeInvalidText, "", nil, "the JSON is not UTF-8")
	}
	return readMessage("", data, m.ProtoReflect())
}

// readMessage fills a message from a JSON object. path is the object's own name.
func readMessage(path string, data []byte, m protoreflect.Message) error {
	if r, ok := m.Interface().(*SeqRange); ok && len(data) > 0 && data[0] == '[' {
		return readPair(path, data, r)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return badJSON(path, data, err)
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		value, ok := members[string(fd.Name())]
		if !ok {
			value, ok = members[fd.JSONName()]
		}
		if !ok || string(value) == "null" {
			continue
		}
		name := join(path, string(fd.Name()))
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := m.WhichOneof(one); other != nil {
				return refuse(CodeMalformed, name, nil, "beside %s: only one of them", other.Name())
			}
		}
		if err := readField(name, value, m, fd); err != nil {
			return err
		}
	}
	if s, ok := m.Interface().(*Spectrum); ok {
		if levels, ok := members["dbfs_hz"]; ok && string(levels) != "null" {
			return readLevels(join(path, "dbfs_hz"), levels, s)
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func badJSON(path string, data []byte, err error) *Error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return refuse(CodeMalformed, path, nil, "not JSON: %v at byte %d", syntax, syntax.Offset)
	}
	return refuse(CodeMalformed, path, data, "want a JSON object")
}

// readPair reads [from,to].
func readPair(path string, data []byte, r *SeqRange) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil || len(pair) != 2 {
		return refuse(CodeMalformed, path, data, "want [from,to]")
	}
	from, err := readUint(path, pair[0], 64)
	if err != nil {
		return err
	}
	to, err := readUint(path, pair[1], 64)
	if err != nil {
		return err
	}
	r.From, r.To = &from, &to
	return nil
}

func readField(name string, data []byte, m protoreflect.Message, fd protoreflect.FieldDescriptor) error {
	if !fd.IsList() {
		if fd.Message() != nil {
			return readMessage(name, data, m.Mutable(fd).Message())
		}
		v, known, err := readScalar(name, data, fd)
		if err == nil && known {
			m.Set(fd, v)
		}
		return err
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return refuse(CodeMalformed, name, data, "want an array")
	}
	if len(elements) > MaxElements {
		return refuse(CodeTooMany, name, nil, "%d elements, at most %d", len(elements), MaxElements)
	}
	list := m.Mutable(fd).List()
	for _, e := range elements {
		if fd.Message() != nil {
			v := list.NewElement()
			if err := readMessage(name, e, v.Message()); err != nil {
				return err
			}
			list.Append(v)
			continue
		}
		v, known, err := readScalar(name, e, fd)
		if err != nil {
			return err
		}
		if known {
			list.Append(v)
		}
	}
	return nil
}

// readScalar reads one value; known is false for an enum name of a later version.
func readScalar(name string, data []byte, fd protoreflect.FieldDescriptor) (v protoreflect.Value, known bool, err error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		s, err := readString(name, data)
		return protoreflect.ValueOfString(s), true, err
	case protoreflect.BytesKind:
		b, err := readBytes(name, data, isHex(fd))
		return protoreflect.ValueOfBytes(b), true, err
	case protoreflect.BoolKind:
		var b bool
		if json.Unmarshal(data, &b) != nil {
			return v, false, refuse(CodeMalformed, name, data, "want true or false")
		}
		return protoreflect.ValueOfBool(b), true, nil
	case protoreflect.EnumKind:
		return readEnum(name, data, fd.Enum())
	case protoreflect.Sfixed64Kind:
		ns, err := readTime(name, data)
		return protoreflect.ValueOfInt64(ns), true, err
	case protoreflect.FloatKind:
		f, err := readFloat(name, data, 32)
		return protoreflect.ValueOfFloat32(float32(f)), true, err
	case protoreflect.DoubleKind:
		f, err := readFloat(name, data, 64)
		return protoreflect.ValueOfFloat64(f), true, err
	case protoreflect.Uint32Kind:
		n, err := readUint(name, data, 32)
		return protoreflect.ValueOfUint32(uint32(n)), true, err
	case protoreflect.Uint64Kind:
		n, err := readUint(name, data, 64)
		return protoreflect.ValueOfUint64(n), true, err
	default: // int32; the schema has no other
		n, err := readInt32(name, data)
		return protoreflect.ValueOfInt32(n), true, err
	}
}

func readString(name string, data []byte) (string, error) {
	var s *string
	if json.Unmarshal(data, &s) != nil || s == nil {
		return "", refuse(CodeMalformed, name, data, "want a string")
	}
	return *s, nil
}

// readBytes reads hex digits where the dialect writes them, else base64 in any of its alphabets. A spool of 16 and a
// hash of 128 digits cannot be base64 of their length.
func readBytes(name string, data []byte, asHex bool) ([]byte, error) {
	s, err := readString(name, data)
	if err != nil {
		return nil, err
	}
	if asHex && (len(s) == 2*SpoolBytes || len(s) == 128) {
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil, refuse(CodeMalformed, name, s, "want hex digits")
		}
		return b, nil
	}
	s = strings.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	b, err := encoding.DecodeString(s)
	if err != nil {
		return nil, refuse(CodeMalformed, name, s, "want base64, or for spool and sha512 hex digits")
	}
	return b, nil
}

func readEnum(name string, data []byte, ed protoreflect.EnumDescriptor) (v protoreflect.Value, known bool, err error) {
	if data[0] != '"' {
		n, err := readInt32(name, data)
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), true, err
	}
	s, err := readString(name, data)
	if err != nil {
		return v, false, err
	}
	n, known := enumNumber(ed, s)
	return protoreflect.ValueOfEnum(n), known, nil
}

// readTime reads RFC 3339, or nanoseconds since 1970 as protobuf's JSON writes them.
func readTime(name string, data []byte) (int64, error) {
	number := string(data)
	if data[0] == '"' {
		s, err := readString(name, data)
		if err != nil {
			return 0, err
		}
		if strings.ContainsAny(s, "Tt:") {
			t, err := ParseTime(s)
			if err != nil {
				e := asError(err)
				e.Field = name
				return 0, e
			}
			return t.UnixNano(), nil
		}
		number = s
	}
	ns, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, refuse(CodeMalformed, name, number, "want RFC 3339, such as 2026-11-24T01:26:32.500000000Z")
	}
	return ns, nil
}

// readNumber is the text of a number, also of one in a string.
func readNumber(name string, data []byte) (string, error) {
	if data[0] == '"' {
		return readString(name, data)
	}
	return string(data), nil
}

func readFloat(name string, data []byte, bits int) (float64, error) {
	s, err := readNumber(name, data)
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(s, bits)
	switch {
	case err != nil:
		return 0, refuse(CodeMalformed, name, s, "want a number")
	case math.IsNaN(f) || math.IsInf(f, 0):
		return 0, refuse(CodeNotFinite, name, s, "leave out what is unknown")
	}
	return f, nil
}

// readUint reads a whole number, also one written as 1e3 or 5.0.
func readUint(name string, data []byte, bits int) (uint64, error) {
	s, err := readNumber(name, data)
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseUint(s, 10, bits); err == nil {
		return n, nil
	}
	const exact = 1 << 53 // above it a float is no whole number anybody meant
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > exact || f >= math.Ldexp(1, bits) {
		return 0, refuse(CodeMalformed, name, s, "want a whole number from 0, of %d bits", bits)
	}
	return uint64(f), nil
}

func readInt32(name string, data []byte) (int32, error) {
	s, err := readNumber(name, data)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, refuse(CodeMalformed, name, s, "want a whole number of 32 bits")
	}
	return int32(n), nil
}

// readLevels codes dbfs_hz. What NewSpectrum once coded comes back byte for byte; levels of others on a grid of
// 0.1 dB too fine for its steps keep it where a byte has room.
func readLevels(name string, data []byte, s *Spectrum) error {
	var numbers []*float64
	if err := json.Unmarshal(data, &numbers); err != nil {
		return refuse(CodeMalformed, name, nil, "want an array of numbers: %v", err)
	}
	levels := make([]float64, len(numbers))
	for i, v := range numbers {
		if v == nil {
			return refuse(CodeMalformed, name, nil, "null at bin %d: every bin needs a level", i)
		}
		levels[i] = *v
	}
	coded, err := NewSpectrum(levels, 0, 0)
	if err != nil {
		e := asError(err)
		e.Field = name
		return e
	}
	if low, high, _ := levelRange(levels); high-low <= 25.5 && !onGrid(levels, low, finestResolutionDB) && onGrid(levels, low, 0.1) {
		coded = codeLevels(levels, math.Round(low*10)/10, 0.1, 0, 0)
	}
	s.OffsetDbfsHz, s.ResolutionDb, s.Bins = coded.OffsetDbfsHz, coded.ResolutionDb, coded.Bins
	s.Codec, s.Levels = coded.Codec, coded.Levels
	return nil
}

// onGrid tells whether all levels are whole steps above low.
func onGrid(levels []float64, low, step float64) bool {
	for _, v := range levels {
		if n := (v - low) / step; math.Abs(n-math.Round(n)) > 1e-6 {
			return false
		}
	}
	return true
}

// JSONHoldsNUL tells whether a text in JSON holds a NUL character, which no database stores. A backslash that is a character itself, as in
// the text \u0000, does not make one.
func JSONHoldsNUL(text []byte) bool {
	const spelled = `\u0000`
	for from := 0; ; {
		at := bytes.Index(text[from:], []byte(spelled))
		if at < 0 {
			return false
		}
		at += from
		before := at
		for before > 0 && text[before-1] == '\\' {
			before--
		}
		if (at-before)%2 == 0 {
			return true
		}
		from = at + len(spelled)
	}
}
