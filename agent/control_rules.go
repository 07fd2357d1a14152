package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
)

// Band is a closed range of frequencies, written 144M-146M.
type Band struct{ LowHz, HighHz float64 }

// UnmarshalText reads 144M-146M.
func (b *Band) UnmarshalText(text []byte) error {
	low, high, ok := strings.Cut(string(text), "-")
	var l, h configs.Hertz
	if !ok || l.UnmarshalText([]byte(low)) != nil || h.UnmarshalText([]byte(high)) != nil || l > h {
		return errors.New("want a band like 144M-146M")
	}
	*b = Band{float64(l), float64(h)}
	return nil
}

// String prints the band with units.
func (b Band) String() string {
	return configs.Hertz(b.LowHz).String() + "-" + configs.Hertz(b.HighHz).String()
}

func (b Band) overlaps(low, high float64) bool { return low <= b.HighHz && high >= b.LowHz }

func (b Band) contains(low, high float64) bool { return low >= b.LowHz && high <= b.HighHz }

// hours is a daily span of local time in minutes; to may be before from, over midnight.
type hours struct{ from, to int }

func parseHours(s string) (hours, error) {
	var h hours
	var fromH, fromM, toH, toM int
	n, err := fmt.Sscanf(s, "%d:%d-%d:%d", &fromH, &fromM, &toH, &toM)
	h.from, h.to = fromH*60+fromM, toH*60+toM
	if err != nil || n != 4 || min(fromH, fromM, toH, toM) < 0 || max(fromM, toM) > 59 || max(fromH, toH) > 24 || max(h.from, h.to) > 24*60 {
		return h, errors.New("want local times like 08:00-22:30")
	}
	return h, nil
}

func (h hours) contain(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	if h.from <= h.to {
		return m >= h.from && m < h.to
	}
	return m >= h.from || m < h.to
}

func parseGain(s string) (float64, error) {
	db, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(s, "dB")), 64)
	if err == nil && (math.IsNaN(db) || math.IsInf(db, 0)) {
		err = fmt.Errorf("%q is no gain", s)
	}
	return db, err
}

// refusal is why the station does not do what it was asked: a code for machines and a sentence for people.
type refusal struct{ code, message string }

// allows tells whether the station takes a kind of order.
func (c ControlConfig) allows(order string) bool { return slices.Contains(c.Allow, order) }

// judge applies the station owner's rules to an order to capture or to tune, but for those on frequencies; nil means that it
// is allowed. An order for later has to come, and to begin, in the owner's hours.
func (c ControlConfig) judge(order string, durationS float64, now, start time.Time) *refusal {
	if !c.allows(order) {
		return &refusal{"not_allowed", fmt.Sprintf("this station takes no orders to %s; its owner would add %[1]s to control.allow", order)}
	}
	if limit := time.Duration(c.MaxDuration); limit > 0 && durationS > limit.Seconds() {
		return &refusal{"too_long", fmt.Sprintf("the owner of this station allows at most %s (control.max_duration)", limit)}
	}
	if c.Hours != "" {
		if h, err := parseHours(c.Hours); err == nil && (!h.contain(now.Local()) || start.After(now) && !h.contain(start.Local())) {
			return &refusal{"outside_hours", fmt.Sprintf("the owner of this station takes orders at %s local time only, and only for a start then or in the past (control.hours)", c.Hours)}
		}
	}
	return nil
}

// permit applies the owner's rules on frequencies to a band that would be recorded; an empty code means that it is allowed.
func (c ControlConfig) permit(lowHz, highHz float64) (code, message string) {
	band := fmt.Sprintf("%s to %s", configs.Hertz(math.Round(lowHz)), configs.Hertz(math.Round(highHz)))
	if len(c.Frequencies) > 0 && !slices.ContainsFunc(c.Frequencies, func(b Band) bool { return b.contains(lowHz, highHz) }) {
		return "frequency_not_allowed", "it would record " + band + ", and the owner of this station allows other frequencies only (control.frequencies): order a bandwidth inside them"
	}
	if slices.ContainsFunc(c.Deny, func(b Band) bool { return b.overlaps(lowHz, highHz) }) {
		return "frequency_denied", "it would record " + band + ", of which the owner of this station denies a part (control.deny): order a bandwidth beside it"
	}
	return "", ""
}
