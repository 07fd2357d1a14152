package protocol

import (
	"encoding/json"
	"strings"
	"time"
)

// timeLayout is RFC 3339 with 9 decimals, for times that are already UTC.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// formatTime prints wire nanoseconds.
func formatTime(ns int64) string { return FormatTime(time.Unix(0, ns)) }

// FormatTime prints a time as JSON, SigMF and REST do: RFC 3339, UTC, 9 decimals.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseTime reads RFC 3339 with any number of decimals (those after the ninth are dropped) and any offset. Without
// an offset it is UTC: recorders write that. The error is an *Error.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", strings.TrimSpace(s))
	}
	if err != nil {
		return time.Time{}, refuse(CodeMalformed, "time", s, "want RFC 3339, such as 2026-11-24T01:26:32.500000000Z")
	}
	if !time.Unix(0, t.UnixNano()).Equal(t) {
		return time.Time{}, refuse(CodeAbsurdTime, "time", FormatTime(t), "want a time between September 1677 and April 2262: nanoseconds of others do not fit 64 bits")
	}
	return t.UTC(), nil
}

// Timestamp is a time whose JSON form has 9 decimals, as SigMF datetimes have here.
type Timestamp struct {
	time.Time
}

// MarshalJSON writes RFC 3339, UTC, 9 decimals.
func (t Timestamp) MarshalJSON() ([]byte, error) { return json.Marshal(FormatTime(t.Time)) }

// UnmarshalJSON reads what ParseTime reads.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return refuse(CodeMalformed, "time", b, "want a string with RFC 3339")
	}
	parsed, err := ParseTime(s)
	if err != nil {
		return err
	}
	t.Time = parsed
	return nil
}
