package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/recorder"
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

// containAll looks at each minute of the clock on the wall, which may be set to another season meanwhile.
func (h hours) containAll(from, to time.Time) bool {
	for t := from; t.Before(to) && t.Sub(from) <= 25*time.Hour; t = t.Add(time.Minute) {
		if !h.contain(t) {
			return false
		}
	}
	last := to.Add(-1)
	if last.Before(from) {
		last = from
	}
	return h.contain(last)
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

// judge applies the station owner's rules to an order to capture or to tune that comes now, but for those on what it would
// record; nil means that it is allowed.
func (c ControlConfig) judge(order string, durationS float64, now time.Time) *refusal {
	if !c.allows(order) {
		return &refusal{"not_allowed", fmt.Sprintf("this station takes no orders to %s; its owner would add %[1]s to control.allow", order)}
	}
	if limit := time.Duration(c.MaxDuration); limit > 0 && durationS > limit.Seconds() {
		return &refusal{"too_long", fmt.Sprintf("the owner of this station allows at most %s (control.max_duration)", limit)}
	}
	if !c.open(now, now) {
		return &refusal{outsideHours, fmt.Sprintf("the owner of this station takes orders at %s local time only (control.hours)", c.Hours)}
	}
	return nil
}

const outsideHours = "outside_hours"

// permit applies the owner's rules to what would be recorded, or heard for others to record; an empty code means that it is
// allowed.
func (c ControlConfig) permit(r recorder.Reveals) (code, message string) {
	if !c.open(r.From, r.To) {
		return outsideHours, fmt.Sprintf("it would record %s to %s, and the owner of this station lets orders have what is heard at %s local time only, past times too (control.hours)",
			r.From.Local().Format(time.RFC3339), r.To.Local().Format(time.RFC3339), c.Hours)
	}
	band := fmt.Sprintf("%s to %s", configs.Hertz(math.Round(r.LowHz)), configs.Hertz(math.Round(r.HighHz)))
	if len(c.Frequencies) > 0 && !slices.ContainsFunc(c.Frequencies, func(b Band) bool { return b.contains(r.LowHz, r.HighHz) }) {
		return "frequency_not_allowed", "it would record " + band + ", and the owner of this station allows other frequencies only (control.frequencies): order a bandwidth inside them"
	}
	if slices.ContainsFunc(c.Deny, func(b Band) bool { return b.overlaps(r.LowHz, r.HighHz) }) {
		return "frequency_denied", "it would record " + band + ", of which the owner of this station denies a part (control.deny): order a bandwidth beside it"
	}
	return "", ""
}

// open tells whether a stretch of time lies in the owner's hours, all of it.
func (c ControlConfig) open(from, to time.Time) bool {
	if c.Hours == "" {
		return true
	}
	h, err := parseHours(c.Hours)
	return err == nil && h.containAll(from.Local(), to.Local())
}
