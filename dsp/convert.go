package dsp

import (
	"encoding/binary"
	"math"
)

// Convert turns raw interleaved samples into floats of full scale 1, as many as fit, and returns how many samples it
// wrote. Codes of n signed bits are divided by 2^(n-1); unsigned 8-bit codes c become (c-127.5)/127.5. Floats that are
// not finite become zero, those beyond a million a million. A tail shorter than one sample is left out.
func Convert(re, im []float32, raw []byte, format Format) int {
	n := samplesIn(len(re), len(im), raw, format)
	re, im = re[:n], im[:n]
	switch format {
	case CU8:
		raw = raw[:2*n]
		for i := range re {
			re[i] = (float32(raw[2*i]) - 127.5) * (1 / 127.5)
			im[i] = (float32(raw[2*i+1]) - 127.5) * (1 / 127.5)
		}
	case CS8:
		raw = raw[:2*n]
		for i := range re {
			re[i] = float32(int8(raw[2*i])) * (1.0 / 128)
			im[i] = float32(int8(raw[2*i+1])) * (1.0 / 128)
		}
	case CS16:
		for i := range re {
			v := binary.LittleEndian.Uint32(raw[4*i:])
			re[i] = float32(int16(v)) * (1.0 / 32768)
			im[i] = float32(int16(v>>16)) * (1.0 / 32768)
		}
	case CF32:
		for i := range re {
			v := binary.LittleEndian.Uint64(raw[8*i:])
			re[i] = finite(uint32(v))
			im[i] = finite(uint32(v >> 32))
		}
	case FormatUnknown:
	}
	return n
}

// ConvertComplex is Convert into complex values.
func ConvertComplex(dst []complex64, raw []byte, format Format) int {
	n := samplesIn(len(dst), len(dst), raw, format)
	const chunk = 512
	var re, im [chunk]float32
	bytes := format.BytesPerSample()
	for at := 0; at < n; at += chunk {
		m := Convert(re[:], im[:], raw[at*bytes:n*bytes], format)
		for i := range m {
			dst[at+i] = complex(re[i], im[i])
		}
	}
	return n
}

func samplesIn(re, im int, raw []byte, format Format) int {
	bytes := format.BytesPerSample()
	if bytes == 0 {
		return 0
	}
	return min(re, im, len(raw)/bytes)
}

// mostFloat holds floats down: no receiver is 120 dB over full scale, and squares must stay finite.
const mostFloat = 1e6

// finite reads a float32 and gives zero for infinities and values that are no number.
func finite(bits uint32) float32 {
	if bits&0x7f800000 == 0x7f800000 {
		return 0
	}
	return max(-mostFloat, min(math.Float32frombits(bits), mostFloat))
}

// StepOf is the quantiser step of a format, full scale 1; zero for floats.
func StepOf(format Format) float64 {
	switch format {
	case CU8:
		return 1 / 127.5
	case CS8:
		return 1.0 / 128
	case CS16:
		return 1.0 / 32768
	case CF32, FormatUnknown:
	}
	return 0
}
