package radio

import (
	"strings"
	"testing"
	"time"
)

// What the programs print, from their sources.
func TestChatter(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       remark
		why        string
	}{
		{"nothing", "", remark{}, ""},
		{
			"arecord", "Recording raw data 'stdin' : Signed 16 bit Little Endian, Rate 192000 Hz, Stereo\noverrun!!! (at least 12.345 ms long)\noverrun!!! (at least 1.000 ms long)\n",
			remark{time: 13345 * time.Microsecond},
			"overrun!!! (at least 1.000 ms long)",
		},
		{
			"arecord without a device", "ALSA lib pcm_hw.c:1829:(_snd_pcm_hw_open) Invalid value for card\narecord: main:831: audio open error: No such file or directory\n",
			remark{},
			"arecord: main:831: audio open error: No such file or directory",
		},
		{"rtl_sdr", "Found 1 device(s):\n\nusb_claim_interface error -6\nFailed to open rtlsdr device #0.\n", remark{}, "Failed to open rtlsdr device #0."},
		{
			"rtl_sdr, the reader is gone", "Reading samples in async mode...\nShort write, samples lost, exiting!\n\nUser cancel, exiting...\n",
			remark{unsized: true},
			"Short write, samples lost, exiting!",
		},
		{"rx_sdr", "Reading samples in sync mode...\nOO", remark{unsized: true}, "OO"},
		{"words with O", "Opening\nOver", remark{}, "Over"},
		{"SoapySDR", "[WARNING] SoapyAirspy: stream overflow\n", remark{unsized: true}, "[WARNING] SoapyAirspy: stream overflow"},
		{
			"hackrf", " 4.0 MB / 1.000 sec =  4.0 MB/second, average power -30.0 dBfs, 16384 bytes free in buffer, 0 overruns, longest 0 bytes\n",
			remark{},
			"4.0 MB / 1.000 sec =  4.0 MB/second, average power -30.0 dBfs, 16384 bytes free in buffer, 0 overruns, longest 0 bytes",
		},
		{
			"hackrf, one", "x, 5 bytes free in buffer, 1 overruns, longest 16384 bytes\nx, 5 bytes free in buffer, 1 overruns, longest 16384 bytes\n",
			remark{bytes: 16384},
			"x, 5 bytes free in buffer, 1 overruns, longest 16384 bytes",
		},
		{"hackrf, several", "x, 5 bytes free in buffer, 3 overruns, longest 16384 bytes\n", remark{unsized: true}, "x, 5 bytes free in buffer, 3 overruns, longest 16384 bytes"},
		{
			"hackrf ends", "\nCouldn't transfer any bytes for one second.\n\nExiting...\nTotal time: 1.00000 s\nhackrf_close() done\nexit\n",
			remark{},
			"Couldn't transfer any bytes for one second.",
		},
		{"counted", "lost 512 samples\n1024 samples dropped\n", remark{samples: 1536}, "1024 samples dropped"},
		{
			"beyond belief", "lost 99999999999999999999999 samples\noverrun!!! (at least 99999999999999999999 ms long)\n",
			remark{samples: 1<<32 - 1, time: time.Hour},
			"overrun!!! (at least 99999999999999999999 ms long)",
		},
		{"airspy", "Streaming at 2.500 MSPS\nStreaming at 2.500 MSPS\n", remark{}, "Streaming at 2.500 MSPS"},
	} {
		for _, piece := range []int{1, 7, 4096} {
			var c chatter
			for text := tc.text; text != ""; {
				n := min(piece, len(text))
				c.hear([]byte(text[:n]))
				text = text[n:]
			}
			if tc.name == "words with O" && piece == 1 {
				continue // its first letter, alone, is an overflow
			}
			if got := c.take(); got != tc.want {
				t.Errorf("%s, %d bytes at a time: %+v, want %+v", tc.name, piece, got, tc.want)
			}
			if got := c.take(); got != (remark{}) {
				t.Errorf("%s: %+v was said twice", tc.name, got)
			}
			if got := c.why(); got != tc.why {
				t.Errorf("%s, %d bytes at a time: it ended with %q, want %q", tc.name, piece, got, tc.why)
			}
		}
	}
}

func FuzzChatter(f *testing.F) {
	for _, seed := range []string{"overrun!!! (at least 1.5 ms long)\n", "1 overruns, longest 3 bytes\r\n", "OO", "lost 5 samples\n", "\x00\xff\n", strings.Repeat("x", 5000)} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		var c chatter
		piece = max(piece, 1)
		for len(text) > 0 {
			n := min(piece, len(text))
			c.hear(text[:n])
			text = text[n:]
		}
		if len(c.line) > longestLine || len(c.why()) > 3*longestLine {
			t.Errorf("it keeps %d bytes of a line", len(c.line))
		}
		if heard := c.take(); heard.time < 0 {
			t.Errorf("a loss of %s", heard.time)
		}
	})
}
