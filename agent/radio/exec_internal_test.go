package radio

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The command lines that presets make, as their programs' manuals want them.
func TestPreset_Words(t *testing.T) {
	for source, want := range map[string]string{
		"exec:?preset=rtl_sdr&center=433.92M&rate=250k":                                  "rtl_sdr -f 433920000 -s 250000 -",
		"exec:?preset=rtl_sdr&center=433.92M&rate=1.024M&gain=28&ppm=-3&device=1":        "rtl_sdr -f 433920000 -s 1024000 -d 1 -g 28 -p -3 -",
		"exec:ssh shack rtl_sdr?preset=rtl_sdr&center=100M&rate=2.4M&gain=0&options=-S":  "ssh shack rtl_sdr -S -f 100000000 -s 2400000 -g 0.1 -",
		"exec:?preset=rx_sdr&center=14.1M&rate=2M&device=driver=sdrplay&gain=40":         "rx_sdr -f 14100000 -s 2000000 -F CS16 -d driver=sdrplay -g 40 -",
		"exec:?preset=rx_sdr&center=14.1M&rate=2M&format=cf32":                           "rx_sdr -f 14100000 -s 2000000 -F CF32 -I CF32 -",
		"exec:?preset=airspy_rx&center=145.5M&rate=2.5M&gain=12&device=0x35AC63DC2D8C7A": "airspy_rx -r /dev/stdout -f 145.5 -a 2500000 -t 2 -s 0x35AC63DC2D8C7A -g 12",
		"exec:?preset=airspy_rx&center=145.5M&rate=10M&format=cf32":                      "airspy_rx -r /dev/stdout -f 145.5 -a 10000000 -t 0",
		"exec:?preset=hackrf&center=868.3M&rate=8M&gain=40&ppm=0.5":                      "hackrf_transfer -r - -B -f 868300000 -s 8000000 -l 24 -g 16 -C 0.5",
		"exec:?preset=websdr-alsa&center=7.1M&rate=192k&device=hw:1,0":                   "arecord -t raw -f S16_LE -c 2 -r 192000 -D hw:1,0",
	} {
		r, err := Open(source, Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		w := r.(*live).wire.(*program)
		if diff := cmp.Diff(want, strings.Join(w.commandLine(), " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
}

// A gain is divided so that the stages give what was asked, to 1 dB, and never more than they have.
func TestHackrfGain(t *testing.T) {
	for gain := range 103 {
		lna, vga := hackrfSplit(float64(gain))
		if lna < 0 || lna > 40 || math.Mod(lna, 8) != 0 || vga < 0 || vga > 62 || math.Mod(vga, 2) != 0 {
			t.Errorf("%d dB is divided into %g and %g", gain, lna, vga)
		}
		if off := math.Abs(lna + vga - float64(gain)); off > 1 {
			t.Errorf("%d dB comes to %g", gain, lna+vga)
		}
	}
}
