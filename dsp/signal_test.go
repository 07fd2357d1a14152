package dsp_test

import (
	"math"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

// power is the mean |x|^2 of a signal.
func power(n int, s dsp.Signal) float64 {
	x := make([]complex128, n)
	s(x, 0)
	sum := 0.0
	for _, v := range x {
		sum += real(v)*real(v) + imag(v)*imag(v)
	}
	return sum / float64(n)
}

func TestSignals_Power(t *testing.T) {
	near(t, "tone", power(10000, dsp.Tone(0.25, 0.123)), 0.0625, 1e-9)
	near(t, "noise", power(200000, dsp.WhiteNoise(0.1, 1)), 0.02, 0.0003)
	near(t, "QPSK", power(200000, dsp.QPSK(0.01, 50, 0.35, 1)), 0.01, 0.0002)
	near(t, "QPSK with the pulse's special points", power(200000, dsp.QPSK(0.01, 20, 0.5, 1)), 0.01, 0.0002)
	near(t, "MSK", power(10000, dsp.MSK(0.3, 24, 1)), 0.09, 1e-9)
	near(t, "noise band", power(1<<17, dsp.NoiseBand(0.01, -0.1, 0.2, 1)), 0.01, 1e-4)
	near(t, "shifted", power(10000, dsp.Shifted(dsp.Tone(0.25, 0.123), 0.3)), 0.0625, 1e-9)
	near(t, "gated", power(10000, dsp.Gated(dsp.Tone(1, 0.1), [][2]uint64{{1000, 2000}, {9000, 20000}})), 0.2, 1e-9)
}

func TestSignals_AnyBlocks(t *testing.T) {
	signals := func() []dsp.Signal {
		return []dsp.Signal{
			dsp.Tone(0.1, 0.37), dsp.WhiteNoise(0.1, 3), dsp.QPSK(0.1, 25, 0.35, 3), dsp.MSK(0.1, 24, 3),
			dsp.NoiseBand(0.01, 0.1, 0.2, 3), dsp.Shifted(dsp.QPSK(0.1, 10, 1, 4), 0.1),
			dsp.Gated(dsp.Tone(0.1, 0.2), [][2]uint64{{100, 200}, {250, 4000}}),
		}
	}
	var whole, parts [5000]complex128
	for _, s := range signals() {
		s(whole[:], 0)
	}
	for _, s := range signals() {
		for at := 0; at < len(parts); {
			n := min(1+at%777, len(parts)-at)
			s(parts[at:at+n], uint64(at))
			at += n
		}
	}
	for i := range whole {
		if d := whole[i] - parts[i]; math.Hypot(real(d), imag(d)) > 1e-12 {
			t.Fatalf("sample %d: %v whole, %v in blocks", i, whole[i], parts[i])
		}
	}
}

func TestMSK_RefusesHoles(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a hole was accepted")
		}
	}()
	dsp.MSK(1, 10, 1)(make([]complex128, 5), 100)
}

func TestQuantise(t *testing.T) {
	for _, v := range []struct {
		format dsp.Format
		want   []byte
	}{
		{dsp.CU8, []byte{0, 255, 128, 127}},
		{dsp.CS8, []byte{0x80, 0x7f, 0, 0xff}},
		{dsp.CS16, []byte{0, 0x80, 0xff, 0x7f, 0, 0, 0x7d, 0xff}},
		{dsp.FormatUnknown, nil},
		{dsp.CF32, []byte{0, 0, 0, 0xc0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0x6f, 0x12, 0x83, 0xbb}},
	} {
		got := dsp.Quantise(nil, []complex128{complex(-2, 2), complex(0, -0.004)}, v.format)
		if string(got) != string(v.want) {
			t.Errorf("%s: got % x, want % x", v.format, got, v.want)
		}
	}
}
