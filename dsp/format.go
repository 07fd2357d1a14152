package dsp

import "fmt"

// Format is the layout of interleaved I/Q samples as a receiver delivers them.
type Format uint8

// The formats that receivers and recordings use. All are little-endian.
const (
	FormatUnknown Format = iota
	CU8                  // unsigned 8 bit, zero at 127.5
	CS8                  // signed 8 bit
	CS16                 // signed 16 bit
	CF32                 // float32, full scale 1.0
)

var formats = [...]struct {
	name, sigmf string
	bytes       int
}{
	FormatUnknown: {"unknown", "", 0},
	CU8:           {"cu8", "cu8", 2},
	CS8:           {"cs8", "ci8", 2},
	CS16:          {"cs16", "ci16_le", 4},
	CF32:          {"cf32", "cf32_le", 8},
}

// ParseFormat reads a format's name, as rtl_433 writes it (cu8, cs8, cs16, cf32)
// or as a SigMF datatype (cu8, ci8, ci16_le, cf32_le).
func ParseFormat(s string) (Format, error) {
	for f, v := range formats {
		if Format(f) != FormatUnknown && (s == v.name || s == v.sigmf) {
			return Format(f), nil
		}
	}
	return FormatUnknown, fmt.Errorf("sample format %q: want cu8, cs8, cs16 or cf32", s)
}

// String is the short name: cu8, cs8, cs16, cf32.
func (f Format) String() string {
	if int(f) >= len(formats) {
		f = FormatUnknown
	}
	return formats[f].name
}

// SigMF is the format's SigMF datatype: cu8, ci8, ci16_le, cf32_le; empty when unknown.
func (f Format) SigMF() string {
	if int(f) >= len(formats) {
		return ""
	}
	return formats[f].sigmf
}

// BytesPerSample is the size of one I/Q pair; 0 when unknown.
func (f Format) BytesPerSample() int {
	if int(f) >= len(formats) {
		return 0
	}
	return formats[f].bytes
}
