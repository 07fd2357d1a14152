package protocol

import (
	"errors"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checker keeps the first fault of a message. Its checks do nothing once there is one, and nothing on absent fields.
type checker struct {
	err   *Error
	path  [4]string // names of the messages around the field: reply, capture; the schema is no deeper
	depth int
}

// at is a field's name with its path: reply.capture.scale.
func (c *checker) at(field string) string {
	parts := c.path[:c.depth:c.depth]
	if field != "" {
		parts = append(parts, field)
	}
	return strings.Join(parts, ".")
}

func (c *checker) result() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

func (c *checker) refuse(code Code, field string, value any, format string, args ...any) {
	if c.err == nil {
		c.err = refuse(code, c.at(field), value, format, args...)
	}
}

// asError is the *Error that a checking function of this package returned.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeMalformed, Message: err.Error()}
}

// within runs checks on a nested message, under its name.
func (c *checker) within(name string, present bool, check func()) {
	if c.err != nil {
		return
	}
	if !present {
		c.refuse(CodeMalformed, name, nil, "empty")
		return
	}
	c.path[c.depth] = name
	c.depth++
	check()
	c.depth--
}

// checkNumber refuses what is not finite or not within lo..hi.
func checkNumber[T float32 | float64](c *checker, field string, v *T, lo, hi float64) {
	if c.err != nil || v == nil {
		return
	}
	x := float64(*v)
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		c.refuse(CodeNotFinite, field, x, "leave out what is unknown")
	case x < lo || x > hi:
		c.refuse(CodeOutOfRange, field, x, "want %v to %v", lo, hi)
	}
}

// checkCount refuses a count that the database cannot hold.
func checkCount[T uint32 | uint64](c *checker, field string, v *T, most uint64) {
	if c.err == nil && v != nil && uint64(*v) > most {
		c.refuse(CodeOutOfRange, field, *v, "at most %d", most)
	}
}

// checkEnum refuses negative numbers. Those above the known are of a later version, and kept.
func checkEnum[T ~int32](c *checker, field string, v *T) {
	if c.err == nil && v != nil && *v < 0 {
		c.refuse(CodeOutOfRange, field, int32(*v), "no value of this list")
	}
}

func (c *checker) required(field string, v *float64) {
	if v == nil {
		c.refuse(CodeMalformed, field, nil, "missing")
	}
}

// positive is checkNumber for what cannot be 0 either.
func (c *checker) positive(field string, v *float64, hi float64) {
	checkNumber(c, field, v, 0, hi)
	if v != nil && *v == 0 {
		c.refuse(CodeOutOfRange, field, *v, "want more than 0")
	}
}

func (c *checker) ordered(lowField, highField string, low, high *float64) {
	if c.err == nil && low != nil && high != nil && *low > *high {
		c.refuse(CodeOutOfRange, lowField, *low, "above %s, which is %v", highField, *high)
	}
}

func (c *checker) timestamp(field string, ns *int64) {
	if c.err == nil && ns != nil && *ns < 0 {
		c.refuse(CodeAbsurdTime, field, formatTime(*ns), "before 1970")
	}
}

func (c *checker) flags(flags []Flag) {
	c.most("flags", len(flags), MaxUnackedRanges)
	for i := range flags {
		checkEnum(c, "flags", &flags[i])
	}
}

func (c *checker) most(field string, n, most int) {
	if n > most {
		c.refuse(CodeTooMany, field, nil, "%d elements, at most %d", n, most)
	}
}

func (c *checker) spool(spool []byte) {
	if len(spool) != SpoolBytes {
		c.refuse(CodeMalformed, "spool", nil, "%d bytes, want %d", len(spool), SpoolBytes)
	}
}

func (c *checker) ranges(field string, ranges []*SeqRange, most int) {
	c.most(field, len(ranges), most)
	if c.err != nil {
		return
	}
	for _, r := range ranges {
		switch from, to := r.GetFrom(), r.GetTo(); {
		case r == nil || r.From == nil || r.To == nil || from == 0:
			c.refuse(CodeMalformed, field, nil, "a range without both ends: want [from,to], counted from 1")
		case from > to:
			c.refuse(CodeMalformed, field, from, "begins above its end %d", to)
		case to > MaxSeq:
			c.refuse(CodeOutOfRange, field, to, "at most %d", uint64(MaxSeq))
		}
	}
}

// id checks a name that becomes part of object keys and paths.
func (c *checker) id(field string, s *string, required bool) {
	if c.err != nil || s == nil && !required {
		return
	}
	if s == nil {
		c.refuse(CodeMalformed, field, nil, "missing")
		return
	}
	ok := *s != "" && len(*s) <= 128 && (*s)[0] != '.' && (*s)[0] != '-'
	for i := range len(*s) {
		b := (*s)[i]
		ok = ok && (b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b == '.')
	}
	if !ok {
		c.refuse(CodeMalformed, field, *s, "want 1 to 128 of letters, digits and - _ .")
	}
}

// text checks a name: short, and without control characters.
func (c *checker) text(field string, s *string, most int) {
	if c.err != nil || s == nil {
		return
	}
	if len(*s) > most {
		c.refuse(CodeTooLarge, field, *s, "at most %d bytes", most)
		return
	}
	if fault := textFault(*s); fault != "" {
		c.refuse(CodeInvalidText, field, *s, "%s", fault)
	}
}

// sentence checks text for people, which may have line breaks.
func (c *checker) sentence(field string, s *string) {
	if c.err != nil || s == nil {
		return
	}
	oneLine := strings.NewReplacer("\n", " ", "\t", " ").Replace(*s)
	c.text(field, &oneLine, MaxMessageTextBytes)
}

// CleanText makes text from elsewhere (a device's name, another program's error) fit for a field: control characters
// become spaces, what is not UTF-8 becomes U+FFFD, and it is cut to at most most bytes at a letter's end. MaxTextBytes
// suits names, MaxMessageTextBytes sentences. Without it a record may be refused for the sake of its least part.
func CleanText(s string, most int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r // and U+FFFD for each byte that is not UTF-8
	}, s))
	if len(s) <= most {
		return s
	}
	cut := max(most, 0)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// textFault says what makes s no clean text; empty when nothing does.
func textFault(s string) string {
	for i := range len(s) {
		// U+0080 to U+009F are control characters, too: terminals take U+009B for the beginning of a command.
		if s[i] < ' ' || s[i] == 0x7f || s[i] == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0 {
			return "has a control character"
		}
	}
	if !utf8.ValidString(s) {
		return "is not UTF-8"
	}
	return ""
}
