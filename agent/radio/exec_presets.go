package radio

import (
	"fmt"
	"math"
	"strconv"

	"github.com/fulgidus/heimdall/dsp"
)

// preset is a program whose command line is known.
type preset struct {
	program  string
	formats  []dsp.Format // the first is the default
	tunes    Range        // also what a source URL may ask for
	fixed    bool         // somebody else chooses the centre; it is not tunable
	device   bool         // which device has to be said
	spike    bool         // it leaves one at 0 Hz
	leastPPM float64      // 0: there is no correction
	gain     gainScale
	gap      [2]float64 // rates in between are not taken; zero: there are none
	words    func(o order) []string
}

// gainScale is what gain= means.
type gainScale struct {
	most   float64 // 0: there is no gain to set
	unit   string
	inDB   bool
	coarse func(asked float64) float64 // what it comes to; nil: what was asked
}

// order is what a program is asked for.
type order struct {
	Tuning
	gain   float64 // on the preset's scale; NaN: as the program likes
	format dsp.Format
	device string
	ppm    float64
}

// presets are the programs that write samples to their standard output. Options: rtl-sdr 0.6 and 2.0, rx_tools, airspy 1.0.10,
// hackrf 2022.09 and later, alsa-utils 1.2.
var presets = map[string]*preset{
	"rtl_sdr": {
		program: "rtl_sdr", formats: []dsp.Format{dsp.CU8},
		tunes: Range{LowHz: 500e3, HighHz: 2.2e9, LowRateHz: 225001, HighRateHz: 3.2e6}, gap: [2]float64{300e3, 900001},
		leastPPM: 1, gain: gainScale{most: 50, unit: "dB", inDB: true}, words: rtlSDRWords,
	},
	"rx_sdr": {
		program: "rx_sdr", formats: []dsp.Format{dsp.CS16, dsp.CU8, dsp.CS8, dsp.CF32}, // what most devices have comes first
		tunes: Range{LowHz: 1, HighHz: math.MaxUint32, LowRateHz: 1e3, HighRateHz: 100e6}, spike: true,
		leastPPM: 1, gain: gainScale{most: 120, unit: "dB", inDB: true}, words: rxSDRWords,
	},
	"airspy_rx": {
		program: "airspy_rx", formats: []dsp.Format{dsp.CS16, dsp.CF32},
		tunes: Range{LowHz: 24e6, HighHz: 1899e6, LowRateHz: 2.5e6, HighRateHz: 10e6},
		gain:  gainScale{most: 21, unit: "steps of the linearity gain"}, words: airspyWords,
	},
	"hackrf": {
		program: "hackrf_transfer", formats: []dsp.Format{dsp.CS8},
		tunes: Range{LowHz: 1e6, HighHz: 6e9, LowRateHz: 2e6, HighRateHz: 20e6}, spike: true,
		leastPPM: 1e-3, gain: gainScale{most: 102, unit: "dB", inDB: true, coarse: hackrfGain}, words: hackrfWords,
	},
	"websdr-alsa": {
		program: "arecord", formats: []dsp.Format{dsp.CS16}, fixed: true, device: true, spike: true,
		tunes: Range{LowHz: 0, HighHz: maxHz, LowRateHz: 8e3, HighRateHz: 768e3}, words: arecordWords,
	},
}

// packages are where Debian has the programs.
var packages = map[string]string{
	"rtl_sdr": "rtl-sdr", "rtl_tcp": "rtl-sdr", "airspy_rx": "airspy", "airspyhf_rx": "airspyhf", "hackrf_transfer": "hackrf", "arecord": "alsa-utils",
	"sox": "sox", "ssh": "openssh-client", "nc": "netcat-openbsd", "socat": "socat",
}

func hz(v float64) string { return strconv.FormatFloat(math.Round(v), 'f', 0, 64) }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func rtlSDRWords(o order) []string {
	words := []string{"-f", hz(o.CenterHz), "-s", hz(o.SampleRateHz)}
	if o.device != "" {
		words = append(words, "-d", o.device)
	}
	if !math.IsNaN(o.gain) {
		words = append(words, "-g", number(max(o.gain, 0.1))) // 0 means automatic; the gain nearest to 0.1 dB is 0
	}
	if o.ppm != 0 {
		words = append(words, "-p", number(o.ppm))
	}
	return append(words, "-")
}

func rxSDRWords(o order) []string {
	words := []string{"-f", hz(o.CenterHz), "-s", hz(o.SampleRateHz), "-F", rxFormats[o.format]}
	if o.format == dsp.CF32 || o.format == dsp.CS8 {
		words = append(words, "-I", rxFormats[o.format]) // by way of 16 bit nothing would be gained
	}
	if o.device != "" {
		words = append(words, "-d", o.device)
	}
	if !math.IsNaN(o.gain) {
		words = append(words, "-g", number(o.gain))
	}
	if o.ppm != 0 {
		words = append(words, "-p", number(o.ppm))
	}
	return append(words, "-")
}

var rxFormats = map[dsp.Format]string{dsp.CU8: "CU8", dsp.CS8: "CS8", dsp.CS16: "CS16", dsp.CF32: "CF32"}

func airspyWords(o order) []string {
	kind := "2"
	if o.format == dsp.CF32 {
		kind = "0"
	}
	// Not every version takes - for its standard output.
	words := []string{"-r", "/dev/stdout", "-f", number(math.Round(o.CenterHz) / 1e6), "-a", hz(o.SampleRateHz), "-t", kind}
	if o.device != "" {
		words = append(words, "-s", o.device)
	}
	if !math.IsNaN(o.gain) {
		words = append(words, "-g", hz(o.gain))
	}
	return words
}

// hackrfSplit divides a gain between the two stages: the first takes half, in its steps of 8 dB up to 40, and the second the rest,
// in steps of 2 dB up to 62.
func hackrfSplit(gain float64) (lna, vga float64) {
	lna = min(40, 8*math.Round(gain/2/8))
	vga = min(62, max(0, 2*math.Round((gain-lna)/2)))
	return lna, vga
}

func hackrfGain(asked float64) float64 {
	lna, vga := hackrfSplit(asked)
	return lna + vga
}

func hackrfWords(o order) []string {
	words := []string{"-r", "-", "-B", "-f", hz(o.CenterHz), "-s", hz(o.SampleRateHz)}
	if o.device != "" {
		words = append(words, "-d", o.device)
	}
	if !math.IsNaN(o.gain) {
		lna, vga := hackrfSplit(o.gain)
		words = append(words, "-l", hz(lna), "-g", hz(vga))
	}
	if o.ppm != 0 {
		words = append(words, "-C", number(o.ppm))
	}
	return words
}

func arecordWords(o order) []string {
	return []string{"-t", "raw", "-f", "S16_LE", "-c", "2", "-r", hz(o.SampleRateHz), "-D", o.device}
}

// refuse is the Fault of a tuning that the program does not take.
func (p *preset) refuse(where string, t Tuning) error {
	if r := t.SampleRateHz; p.gap[0] > 0 && r > p.gap[0] && r < p.gap[1] {
		return &Fault{where, "rate", formatHertz(r), fmt.Sprintf("want up to %s, or from %s on", formatHertz(p.gap[0]), formatHertz(p.gap[1]))}
	}
	return nil
}
