package protocol

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
)

// Levels below this are taken for it: no receiver has a noise floor there, and digital silence has none at all.
const silenceDBFSHz = -400

// finestResolutionDB is the step between level codes unless the range of levels needs a coarser one.
const finestResolutionDB = 0.5

// Compressors and decompressors of levels are kept for reuse: a new one costs hundreds of kilobytes.
var (
	levelDeflaters = sync.Pool{New: func() any {
		w, err := flate.NewWriter(io.Discard, flate.HuffmanOnly)
		if err != nil {
			return nil // not for a level the package defines itself
		}
		return w
	}}
	levelInflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}
)

// NewSpectrum codes the power spectral density of consecutive bins, dBFS/Hz, in a byte a bin: steps of 0.5 dB, or
// twice that as often as the range needs; the offset is a multiple of 0.1 dB, so that the levels survive JSON. Bins of
// digital silence (-Inf, or below -400) get the lowest level of the others, or -400 where there is no other.
// It refuses NaN and no bins at all with an *Error. Coding what LevelsDBFSHz returned gives the same bytes again.
func NewSpectrum(dbfsHz []float64, startHz, stepHz float64) (*Spectrum, error) {
	low, high, err := levelRange(dbfsHz)
	if err != nil {
		return nil, err
	}
	offset := math.Round(low*10) / 10
	resolution := finestResolutionDB
	for high-offset > 255*resolution+1e-6 { // 326.6-71.6 is a little more than 255
		resolution *= 2
	}
	s := codeLevels(dbfsHz, offset, resolution, startHz, stepHz)
	if err := s.checkLevels(); err != nil { // rounded up to more than a reader accepts
		return nil, err
	}
	return s, nil
}

// levelRange finds the lowest and highest level that is none of silence.
func levelRange(dbfsHz []float64) (low, high float64, err error) {
	if len(dbfsHz) == 0 {
		return 0, 0, refuse(CodeMalformed, "dbfs_hz", nil, "a spectrum without bins")
	}
	if len(dbfsHz) > MaxBins {
		return 0, 0, refuse(CodeTooMany, "dbfs_hz", nil, "%d bins, at most %d", len(dbfsHz), MaxBins)
	}
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range dbfsHz {
		switch {
		case math.IsNaN(v) || math.IsInf(v, 1):
			return 0, 0, refuse(CodeNotFinite, "dbfs_hz", v, "every bin needs a level")
		case v > maxDB:
			return 0, 0, refuse(CodeOutOfRange, "dbfs_hz", v, "want at most %d", maxDB)
		case v >= silenceDBFSHz:
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		return silenceDBFSHz, silenceDBFSHz, nil
	}
	return low, high, nil
}

func codeLevels(dbfsHz []float64, offset, resolution, startHz, stepHz float64) *Spectrum {
	codes := make([]byte, len(dbfsHz))
	for i, v := range dbfsHz {
		codes[i] = byte(min(max(math.Round((v-offset)/resolution), 0), 255))
	}
	codec, levels := Spectrum_CODEC_DEFLATE, deflate(codes)
	if len(levels) >= len(codes) {
		codec, levels = Spectrum_CODEC_RAW, codes
	}
	return &Spectrum{
		StartHz: new(startHz), StepHz: new(stepHz),
		OffsetDbfsHz: new(float32(offset)), ResolutionDb: new(float32(resolution)),
		Bins: new(uint32(len(codes))), Codec: &codec, Levels: levels,
	}
}

// LevelsDBFSHz is the power spectral density of each bin. The error is an *Error.
func (x *Spectrum) LevelsDBFSHz() ([]float64, error) {
	codes, err := x.codes()
	if err != nil {
		return nil, err
	}
	levels := make([]float64, len(codes))
	offset, resolution := float64(x.GetOffsetDbfsHz()), float64(x.GetResolutionDb())
	tenths, tenthStep := math.Round(offset*10), math.Round(resolution*10)
	// A float32 holds -101.4 only nearly: where tenths were meant, tenths are returned.
	exact := float32(tenths/10) == x.GetOffsetDbfsHz() && float32(tenthStep/10) == x.GetResolutionDb()
	for i, code := range codes {
		if exact {
			levels[i] = (tenths + tenthStep*float64(code)) / 10
		} else {
			levels[i] = offset + resolution*float64(code)
		}
	}
	return levels, nil
}

// checkLevels refuses levels that LevelsDBFSHz would not decode, or that no receiver can mean.
func (x *Spectrum) checkLevels() error {
	codes, err := x.codes()
	if err != nil {
		return err
	}
	low := float64(x.GetOffsetDbfsHz())
	high := low + float64(x.GetResolutionDb())*float64(slices.Max(codes))
	// Tenths are what JSON keeps; NaN fails both comparisons.
	if !(math.Round(low*10) >= silenceDBFSHz*10 && math.Round(high*10) <= maxDB*10) {
		return refuse(CodeOutOfRange, "dbfs_hz", fmt.Sprintf("%v to %v", low, high), "want levels from %d to %d", silenceDBFSHz, maxDB)
	}
	return nil
}

// codes is the level code of each bin.
func (x *Spectrum) codes() ([]byte, error) {
	bins := int(x.GetBins())
	switch {
	case x.GetBins() == 0:
		return nil, refuse(CodeMalformed, "bins", nil, "a spectrum without bins")
	case x.GetBins() > MaxBins:
		return nil, refuse(CodeTooMany, "bins", x.GetBins(), "at most %d", MaxBins)
	case x.OffsetDbfsHz == nil:
		return nil, refuse(CodeMalformed, "offset_dbfs_hz", nil, "missing")
	case !(x.GetResolutionDb() > 0):
		return nil, refuse(CodeOutOfRange, "resolution_db", x.GetResolutionDb(), "want more than 0")
	}
	switch x.GetCodec() {
	case Spectrum_CODEC_RAW:
		if len(x.Levels) != bins {
			return nil, refuse(CodeMalformed, "levels", nil, "%d bytes for %d bins", len(x.Levels), bins)
		}
		return x.Levels, nil
	case Spectrum_CODEC_DEFLATE:
		return inflate(x.Levels, bins)
	case Spectrum_CODEC_UNSPECIFIED:
	}
	return nil, refuse(CodeMalformed, "codec", x.GetCodec(), "want raw or deflate")
}

// deflate compresses by Huffman codes alone: noise has no repeats to find. It is within a tenth of the entropy, and
// smaller than zstd at this size.
func deflate(codes []byte) []byte {
	var out bytes.Buffer
	w, ok := levelDeflaters.Get().(*flate.Writer)
	if !ok {
		return codes
	}
	defer levelDeflaters.Put(w)
	w.Reset(&out)
	// Writing to a bytes.Buffer cannot fail.
	_, _ = w.Write(codes)
	_ = w.Close()
	return out.Bytes()
}

// inflate decompresses exactly bins bytes, and never more.
func inflate(levels []byte, bins int) ([]byte, error) {
	r, ok := levelInflaters.Get().(io.ReadCloser)
	if !ok {
		return nil, refuse(CodeMalformed, "levels", nil, "no decompressor")
	}
	defer levelInflaters.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(levels), nil); err != nil {
		return nil, refuse(CodeMalformed, "levels", nil, "not a DEFLATE stream: %v", err)
	}
	codes := make([]byte, bins)
	if _, err := io.ReadFull(r, codes); err != nil {
		return nil, refuse(CodeMalformed, "levels", nil, "not a DEFLATE stream of %d bytes: %v", bins, err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, refuse(CodeMalformed, "levels", nil, "a DEFLATE stream of more than %d bytes", bins)
	}
	return codes, nil
}
