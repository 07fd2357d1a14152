package dsp_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

func TestConvert_Scales(t *testing.T) {
	f32 := func(v ...float32) (raw []byte) {
		for _, x := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		return raw
	}
	for _, v := range []struct {
		format dsp.Format
		raw    []byte
		re, im []float32
	}{
		{dsp.CU8, []byte{0, 255, 127, 128, 9}, []float32{-1, -0.5 / 127.5}, []float32{1, 0.5 / 127.5}},
		{dsp.CS8, []byte{0x80, 0x7f, 0, 1}, []float32{-1, 0}, []float32{127.0 / 128, 1.0 / 128}},
		{dsp.CS16, []byte{0, 0x80, 0xff, 0x7f, 1, 0, 0, 0}, []float32{-1, 1.0 / 32768}, []float32{32767.0 / 32768, 0}},
		{dsp.CF32, f32(1, -0.5, float32(math.NaN()), float32(math.Inf(1))), []float32{1, 0}, []float32{-0.5, 0}},
		{dsp.FormatUnknown, []byte{1, 2, 3, 4}, nil, nil},
	} {
		re, im := make([]float32, 8), make([]float32, 8)
		z := make([]complex64, 8)
		if n := dsp.Convert(re, im, v.raw, v.format); n != len(v.re) {
			t.Fatalf("%s: %d samples, want %d", v.format, n, len(v.re))
		}
		if n := dsp.ConvertComplex(z, v.raw, v.format); n != len(v.re) {
			t.Fatalf("%s: %d complex samples, want %d", v.format, n, len(v.re))
		}
		for i := range v.re {
			near(t, v.format.String()+" I", float64(re[i]), float64(v.re[i]), 1e-7)
			near(t, v.format.String()+" Q", float64(im[i]), float64(v.im[i]), 1e-7)
			if z[i] != complex(re[i], im[i]) {
				t.Errorf("%s: complex %v, split %v %v", v.format, z[i], re[i], im[i])
			}
		}
	}
}

func TestConvertComplex_Long(t *testing.T) {
	raw := make([]byte, 2*5000)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	z := make([]complex64, 5000)
	re, im := make([]float32, 5000), make([]float32, 5000)
	dsp.Convert(re, im, raw, dsp.CU8)
	if n := dsp.ConvertComplex(z, raw, dsp.CU8); n != 5000 {
		t.Fatalf("%d samples", n)
	}
	for i := range z {
		if z[i] != complex(re[i], im[i]) {
			t.Fatalf("sample %d: %v, want %v %v", i, z[i], re[i], im[i])
		}
	}
}

func FuzzConvert(f *testing.F) {
	f.Add([]byte{0, 255, 127, 128, 1, 2, 3, 4, 5}, uint8(dsp.CU8))
	f.Add([]byte{0, 0, 0x80, 0x7f, 0, 0, 0xc0, 0xff}, uint8(dsp.CF32))
	f.Fuzz(func(t *testing.T, raw []byte, format uint8) {
		re, im := make([]float32, 100), make([]float32, 100)
		n := dsp.Convert(re, im, raw, dsp.Format(format))
		for i := range n {
			if v := float64(re[i] - im[i]); math.IsNaN(float64(re[i])) || math.IsNaN(float64(im[i])) || math.IsInf(float64(re[i]), 0) {
				t.Fatalf("sample %d is not finite: %v", i, v)
			}
		}
		var m dsp.Meter
		m.Write(raw, dsp.Format(format))
		if p := m.ClippedFraction(); m.Samples() > 0 && (p < 0 || p > 1) {
			t.Fatalf("clipped fraction %g", p)
		}
	})
}

func TestFormat_Names(t *testing.T) {
	for _, name := range []string{"cu8", "cs8", "cs16", "cf32", "ci16_le", "cf32_le", "ci8"} {
		f, err := dsp.ParseFormat(name)
		if err != nil || f.String() != name && f.SigMF() != name {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if _, err := dsp.ParseFormat(""); err == nil {
		t.Error("an empty name was accepted")
	}
	bad := dsp.Format(200)
	if bad.String() != "unknown" || bad.SigMF() != "" || bad.BytesPerSample() != 0 || dsp.StepOf(bad) != 0 {
		t.Error("an unknown format has properties")
	}
	for f, want := range map[dsp.Format]float64{dsp.CU8: 1 / 127.5, dsp.CS8: 1.0 / 128, dsp.CS16: 1.0 / 32768, dsp.CF32: 0} {
		near(t, f.String(), dsp.StepOf(f), want, 1e-12)
	}
}

func TestMeter_LevelAndDC(t *testing.T) {
	x := make([]complex128, 100000)
	dsp.Tone(0.25, 0.1234567)(x, 0)
	for i := range x {
		x[i] += complex(0.01, -0.02)
	}
	for _, format := range []dsp.Format{dsp.CU8, dsp.CS8, dsp.CS16, dsp.CF32} {
		var m dsp.Meter
		raw := dsp.Quantise(nil, x, format)
		for at := 0; at < len(raw); at += 8008 {
			m.Write(raw[at:min(at+8008, len(raw))], format)
		}
		i, q := m.DC()
		near(t, format.String()+" power", dsp.DB(m.Power()), dsp.DB(0.0625+0.0005), 0.02)
		near(t, format.String()+" DC I", i, 0.01, 2e-3)
		near(t, format.String()+" DC Q", q, -0.02, 2e-3)
		if m.Samples() != 100000 || m.ClippedFraction() != 0 || m.RailFraction() != 0 {
			t.Errorf("%s: %d samples, clipped %g, rails %g", format, m.Samples(), m.ClippedFraction(), m.RailFraction())
		}
	}
	var none dsp.Meter
	none.Write([]byte{1, 2, 3, 4}, dsp.FormatUnknown)
	if !math.IsNaN(none.Power()) {
		t.Error("a power of nothing")
	}
}

func TestMeter_Clipping(t *testing.T) {
	for _, v := range []struct {
		name           string
		format         dsp.Format
		raw            []byte
		clipped, rails float64
	}{
		{"runs of I", dsp.CU8, pairs(100, [][2]int{{10, 3}}, 255, 100), 3.0 / 200, 3.0 / 200},
		{"single codes", dsp.CU8, pairs(100, [][2]int{{10, 1}, {20, 1}}, 0, 100), 0, 2.0 / 200},
		{"more than a tenth", dsp.CU8, alternating(100), 0.25, 0.25},
		{"low rail", dsp.CS8, pairs(100, [][2]int{{5, 2}}, 0x80, 3), 2.0 / 200, 2.0 / 200},
		{"high rail", dsp.CS8, pairs(100, [][2]int{{5, 2}, {50, 4}}, 0x7f, 3), 6.0 / 200, 6.0 / 200},
		{"16 bit", dsp.CS16, []byte{0xff, 0x7f, 0, 0, 0xff, 0x7f, 0, 0x80, 0, 0, 0, 0x80}, 4.0 / 6, 4.0 / 6},
	} {
		var m dsp.Meter
		m.Write(v.raw, v.format)
		near(t, v.name+" clipped", m.ClippedFraction(), v.clipped, 1e-12)
		near(t, v.name+" rails", m.RailFraction(), v.rails, 1e-12)
		var bytewise dsp.Meter
		for at := 0; at < len(v.raw); at += v.format.BytesPerSample() {
			bytewise.Write(v.raw[at:at+v.format.BytesPerSample()], v.format)
		}
		if bytewise.ClippedFraction() != m.ClippedFraction() {
			t.Errorf("%s: sample by sample %g, whole %g", v.name, bytewise.ClippedFraction(), m.ClippedFraction())
		}
	}
	var m dsp.Meter
	m.Write([]byte{255, 100}, dsp.CU8)
	m.Break()
	m.Write(pairs(100, [][2]int{{0, 1}}, 255, 100), dsp.CU8)
	if m.ClippedFraction() != 0 {
		t.Error("a run spans a hole")
	}
	m.Reset()
	if m.Samples() != 0 {
		t.Error("samples after a reset")
	}
}

// pairs are n samples of a quiet code with runs of I at a rail, given by start and length.
func pairs(n int, runs [][2]int, rail, quiet byte) []byte {
	raw := make([]byte, 2*n)
	for i := range raw {
		raw[i] = quiet
	}
	for _, r := range runs {
		for i := range r[1] {
			raw[2*(r[0]+i)] = rail
		}
	}
	return raw
}

// alternating has every second I at a rail, none twice in a row.
func alternating(n int) []byte {
	raw := pairs(n, nil, 0, 100)
	for i := 0; i < n; i += 2 {
		raw[2*i] = 255
	}
	return raw
}
