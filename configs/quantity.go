package configs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Hertz is a frequency, rate or bandwidth: 145.5M, 12.5k, 77500, 2.4 MHz.
type Hertz float64

// UnmarshalText reads a frequency; k, M and G are powers of a thousand and Hz may follow.
func (h *Hertz) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(s, "Hz"), "hz"))
	scale := 1.0
	if n := len(number); n > 0 {
		if power, ok := map[byte]float64{'k': 1e3, 'K': 1e3, 'M': 1e6, 'G': 1e9}[number[n-1]]; ok {
			scale, number = power, strings.TrimSpace(number[:n-1])
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if v *= scale; err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%q is no frequency; write it like 145.5M, 12.5k or 77500", s)
	}
	*h = Hertz(v)
	// 145.5 * 1e6 is exact enough in binary for whole hertz; the rest of the error is below a nanohertz.
	if r := math.Round(float64(*h)*1e3) / 1e3; math.Abs(r-float64(*h)) < 1e-6 {
		*h = Hertz(r)
	}
	return nil
}

// String prints the frequency with its unit, to a thousandth of a hertz: 145.5 MHz.
func (h Hertz) String() string {
	abs := math.Abs(float64(h))
	if abs >= 1e15 || abs < 1e-3 && abs > 0 { // nothing of radio
		return strconv.FormatFloat(float64(h), 'g', -1, 64) + " Hz"
	}
	scale, unit, decimals := 1.0, "Hz", 3
	for _, u := range []struct {
		scale    float64
		name     string
		decimals int
	}{{1e9, "GHz", 12}, {1e6, "MHz", 9}, {1e3, "kHz", 6}} {
		if abs >= u.scale {
			scale, unit, decimals = u.scale, u.name, u.decimals
			break
		}
	}
	number := strconv.FormatFloat(float64(h)/scale, 'f', decimals, 64)
	return strings.TrimSuffix(strings.TrimRight(number, "0"), ".") + " " + unit
}

// Duration is a length of time: 10s, 250ms, 1h30m, 30d, 1y; a plain number is seconds.
type Duration time.Duration

// longUnits are those that time.ParseDuration does not know, and those in which it may be too long for it.
var longUnits = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

// ErrTooLong says that a duration is one, but longer than any here.
var ErrTooLong = errors.New("longer than the longest duration, 292y")

// UnmarshalText reads a duration. The error may be an ErrTooLong.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	compact := strings.ReplaceAll(s, " ", "")
	if v, err := time.ParseDuration(compact); err == nil {
		*d = Duration(v)
		return nil
	}
	unit := time.Second
	for suffix, u := range longUnits {
		if rest, ok := strings.CutSuffix(compact, suffix); ok {
			compact, unit = rest, u
			break
		}
	}
	v, err := strconv.ParseFloat(compact, 64)
	if err != nil || math.IsNaN(v) {
		return fmt.Errorf("%q is no duration; write it like 10s, 250ms, 1h30m or 30d", s)
	}
	if math.Abs(v*float64(unit)) >= math.MaxInt64 {
		return fmt.Errorf("%q is %w", s, ErrTooLong)
	}
	*d = Duration(v * float64(unit))
	return nil
}

// String prints the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// Seconds is the duration in seconds.
func (d Duration) Seconds() float64 { return time.Duration(d).Seconds() }

// Bytes is an amount of storage: 64MiB, 2GiB, 500kB, 1048576.
type Bytes int64

// mostBytes is more than any disk has, and can be added up.
const mostBytes = 1 << 50

var byteUnits = []struct {
	name  string
	scale float64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"kiB", 1 << 10},
	{"EiB", 1 << 60},
	{"PiB", 1 << 50},
	{"EB", 1e18},
	{"PB", 1e15},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// UnmarshalText reads an amount; KiB, MiB and GiB are powers of 1024; kB, MB and GB of 1000.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	number, scale := s, 1.0
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, scale = strings.TrimSpace(rest), u.scale
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err == nil && v*scale > mostBytes {
		return fmt.Errorf("%q is too large: want at most 1 PiB", s)
	}
	if err != nil || math.IsNaN(v) || v < 0 {
		return fmt.Errorf("%q is no amount of bytes; write it like 64MiB, 2GiB or 500kB", s)
	}
	*b = Bytes(v * scale)
	return nil
}

// String prints the amount with the largest unit that leaves at least one: 64 MiB.
func (b Bytes) String() string {
	for _, u := range byteUnits[:4] {
		if float64(b) >= u.scale {
			return strconv.FormatFloat(math.Round(float64(b)/u.scale*10)/10, 'f', -1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}
