package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Code says in one word why something was refused. It is kept with the refused record.
type Code string

// The codes of refusal.
const (
	CodeMalformed    Code = "malformed"     // not the form agreed: undecodable, a required field missing, a wrong id
	CodeUnknownKind  Code = "unknown_kind"  // well formed, but of a kind that this version does not know
	CodeAbsurdTime   Code = "absurd_time"   // before 2000 or more than five minutes ahead
	CodeTooLarge     Code = "too_large"     // more bytes than a limit allows
	CodeTooMany      Code = "too_many"      // more elements than a limit allows
	CodeNotFinite    Code = "not_finite"    // NaN or infinite
	CodeOutOfRange   Code = "out_of_range"  // a number no station can mean
	CodeInvalidText  Code = "invalid_text"  // not UTF-8, or with a NUL or control character
	CodeWrongStation Code = "wrong_station" // the payload names another station than its topic
)

// Error is a refusal: which field, which value, and what to do about it.
type Error struct {
	Code    Code
	Field   string // JSON name with its path: measurement.snr_db; empty when it is the whole message
	Value   string // as received, shortened
	Message string // what is wrong and what to send instead
}

func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{e.Field, e.Value, e.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// CodeOf is the code of the *Error inside err; CodeMalformed when there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeMalformed
}

// refuse makes an Error of a value that came from outside: it is quoted and shortened.
func refuse(code Code, field string, value any, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Value: shorten(value), Message: fmt.Sprintf(format, args...)}
}

// shorten prints a value in at most some 60 characters, safe for a terminal.
func shorten(value any) string {
	const most = 60
	var s string
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		s = v
	case []byte:
		s = string(v)
	default:
		return fmt.Sprint(v)
	}
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:cut], len(s))
}
