package radio

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

// nameFacts is what a recording's name says about it. Zero is "nothing".
type nameFacts struct {
	format   dsp.Format
	centerHz float64
	rateHz   float64
	start    time.Time
}

// extensions maps the names of raw recordings: rtl_433's, then those of Universal Radio Hacker, whose
// "complex16" counts the bits of a whole pair.
var extensions = map[string]dsp.Format{
	".cu8": dsp.CU8, ".cs8": dsp.CS8, ".cs16": dsp.CS16, ".cf32": dsp.CF32,
	".complex": dsp.CF32, ".complex16u": dsp.CU8, ".complex16s": dsp.CS8, ".complex32s": dsp.CS16,
}

var (
	// kiwirecorder: 20171127T104156Z_77500_F1JEK_iq.wav
	kiwiName = regexp.MustCompile(`^(\d{8}T\d{6}Z)_(\d+)(?:_.*)?$`)
	// gqrx: gqrx_20150501_120000_145500000_2000000_fc.raw, times in UTC
	gqrxName = regexp.MustCompile(`^gqrx_(\d{8})_(\d{6})_(\d+)_(\d+)_fc$`)
	// HDSDR, SDR#, SDRuno: HDSDR_20171127_104156Z_14074kHz_RF.wav
	dateName = regexp.MustCompile(`(?:^|_)(\d{8})_(\d{6})Z(?:_|$)`)
	// one part of rtl_433's naming: 433.92M, 250k, 14074kHz, 2400000sps
	quantityName = regexp.MustCompile(`^(\d+(?:\.\d+)?)([kMG]?)(Hz|sps|S)?$`)
)

// factsOfName reads a file name.
func factsOfName(path string) nameFacts {
	base := filepath.Base(path)
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	facts := nameFacts{format: extensions[strings.ToLower(ext)]}
	if m := kiwiName.FindStringSubmatch(stem); m != nil {
		facts.start, _ = time.Parse("20060102T150405Z", m[1])
		facts.centerHz, _ = strconv.ParseFloat(m[2], 64)
		return facts
	}
	if m := gqrxName.FindStringSubmatch(stem); m != nil {
		facts.start, _ = time.Parse("20060102 150405", m[1]+" "+m[2])
		facts.centerHz, _ = strconv.ParseFloat(m[3], 64)
		facts.rateHz, _ = strconv.ParseFloat(m[4], 64)
		facts.format = dsp.CF32
		return facts
	}
	if m := dateName.FindStringSubmatch(stem); m != nil {
		facts.start, _ = time.Parse("20060102 150405", m[1]+" "+m[2])
	}
	facts.centerHz, facts.rateHz = quantitiesOfName(stem)
	return facts
}

// quantitiesOfName finds centre and rate among the parts of a name, as rtl_433 writes them: a part in Hz is the
// centre, in sps the rate; of bare ones k after M is the rate, else the first is the centre and the second the
// rate; one alone in M is a centre, in k a rate.
func quantitiesOfName(stem string) (centerHz, rateHz float64) {
	type quantity struct {
		hz   float64
		unit string
	}
	var bare []quantity
	for _, part := range strings.FieldsFunc(stem, func(r rune) bool { return r == '_' || r == ' ' || r == '@' }) {
		m := quantityName.FindStringSubmatch(part)
		if m == nil || m[2] == "" && m[3] == "" {
			continue
		}
		hz, err := parseHertz(m[1] + m[2])
		switch {
		case err != nil:
		case m[3] == "Hz":
			centerHz = hz
		case m[3] != "":
			rateHz = hz
		default:
			bare = append(bare, quantity{hz, m[2]})
		}
	}
	if len(bare) > 2 {
		bare = bare[len(bare)-2:]
	}
	switch {
	case len(bare) == 2 && bare[0].unit == "k" && bare[1].unit != "k":
		bare[0], bare[1] = bare[1], bare[0]
		fallthrough
	case len(bare) == 2:
		centerHz, rateHz = either(centerHz, bare[0].hz), either(rateHz, bare[1].hz)
	case len(bare) == 1 && (centerHz > 0 || bare[0].unit == "k") && rateHz == 0:
		rateHz = bare[0].hz
	case len(bare) == 1:
		centerHz = either(centerHz, bare[0].hz)
	}
	return centerHz, rateHz
}

// either is the first of two numbers that is known, 0 meaning unknown.
func either(a, b float64) float64 {
	if a != 0 {
		return a
	}
	return b
}
