package protocol_test

import (
	"bytes"
	"compress/flate"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// noise is the level of 1024 bins of white noise averaged 16 times, at -101.4 dBFS/Hz, from a fixed seed.
func noise() []float64 {
	random := rand.New(rand.NewPCG(7, 7))
	levels := make([]float64, 1024)
	for i := range levels {
		sum := 0.0
		for range 16 {
			sum += random.ExpFloat64()
		}
		levels[i] = -101.4 + 10*math.Log10(sum/16)
	}
	return levels
}

func levelsOf(t testing.TB, s *protocol.Spectrum) []float64 {
	t.Helper()
	levels, err := s.LevelsDBFSHz()
	if err != nil {
		t.Fatal(err)
	}
	return levels
}

func TestNewSpectrum_LevelsWithinHalfAStep(t *testing.T) {
	ramp := func(from, to float64) []float64 {
		levels := make([]float64, 997)
		for i := range levels {
			levels[i] = from + (to-from)*float64(i)/996
		}
		return levels
	}
	for name, c := range map[string]struct {
		levels []float64
		step   float32
	}{
		"noise":                    {noise(), 0.5},
		"one bin":                  {[]float64{-87.77}, 0.5},
		"all that half a dB holds": {ramp(-130, -2.5), 0.5},
		"a little more":            {ramp(-130, -2.4), 1},
		"twice as much":            {ramp(-255.1, 0), 2},
		"from silence to absurd":   {ramp(-400, 600), 4},
	} {
		s, err := protocol.NewSpectrum(c.levels, 100, 2)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.GetResolutionDb() != c.step || s.GetStartHz() != 100 || s.GetStepHz() != 2 || int(s.GetBins()) != len(c.levels) {
			t.Errorf("%s: got %v, want steps of %v dB", name, s, c.step)
		}
		got := levelsOf(t, s)
		for i, want := range c.levels {
			// Half a step by rounding to codes, and 0.05 dB by rounding the offset to tenths, where nothing clips.
			if diff := math.Abs(got[i] - want); diff > float64(c.step)/2+0.05 {
				t.Fatalf("%s: bin %d is %v dBFS/Hz, want %v", name, i, got[i], want)
			}
			if tenths := got[i] * 10; tenths != math.Round(tenths) {
				t.Fatalf("%s: bin %d is %v, no multiple of 0.1", name, i, got[i])
			}
		}
		again, err := protocol.NewSpectrum(got, 100, 2)
		if err != nil || !proto.Equal(s, again) {
			t.Errorf("%s: coded again it differs: %v, want %v (%v)", name, again, s, err)
		}
		fromJSON := new(protocol.Spectrum)
		if err := protocol.UnmarshalJSON(marshal(t, s), fromJSON); err != nil || !proto.Equal(s, fromJSON) {
			t.Errorf("%s: after JSON it differs: %v, want %v (%v)", name, fromJSON, s, err)
		}
	}
}

// Noise compresses to near its entropy: 541 bytes for 1024 bins averaged 16 times, in steps of 0.5 dB.
func TestNewSpectrum_CompressesNoise(t *testing.T) {
	s, err := protocol.NewSpectrum(noise(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(s.GetLevels()); s.GetCodec() != protocol.Spectrum_CODEC_DEFLATE || got > 600 {
		t.Errorf("got %d bytes by %v, want at most 600 by deflate", got, s.GetCodec())
	}
	short, err := protocol.NewSpectrum([]float64{-1, -2, -3}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if short.GetCodec() != protocol.Spectrum_CODEC_RAW || !bytes.Equal(short.GetLevels(), []byte{4, 2, 0}) {
		t.Errorf("three bins: got %x by %v, want 040200 by raw", short.GetLevels(), short.GetCodec())
	}
}

func TestNewSpectrum_SilenceIsTheLowestLevel(t *testing.T) {
	s, err := protocol.NewSpectrum([]float64{-90, math.Inf(-1), -80, -1000}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := levelsOf(t, s); got[1] != -90 || got[3] != -90 {
		t.Errorf("got %v, want silence at -90", got)
	}
	s, err = protocol.NewSpectrum([]float64{math.Inf(-1), math.Inf(-1)}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := levelsOf(t, s); got[0] != -400 || got[1] != -400 {
		t.Errorf("got %v, want -400", got)
	}
}

func TestNewSpectrum_Refuses(t *testing.T) {
	for name, c := range map[string]struct {
		levels []float64
		want   protocol.Code
	}{
		"no bins":       {nil, protocol.CodeMalformed},
		"too many bins": {make([]float64, protocol.MaxBins+1), protocol.CodeTooMany},
		"NaN":           {[]float64{0, nan}, protocol.CodeNotFinite},
		"infinite":      {[]float64{0, inf}, protocol.CodeNotFinite},
		"absurd":        {[]float64{0, 1001}, protocol.CodeOutOfRange},
		"rounded up":    {[]float64{754.2, 999.9}, protocol.CodeOutOfRange}, // to 1000.2, in steps of 1 dB
	} {
		if s, err := protocol.NewSpectrum(c.levels, 0, 1); code(err) != c.want {
			t.Errorf("%s: got %v, %v; want code %q", name, s, err, c.want)
		}
	}
}

func TestLevelsDBFSHz_OfOtherWriters(t *testing.T) {
	s := &protocol.Spectrum{
		OffsetDbfsHz: new(float32(-100.25)), ResolutionDb: new(float32(0.125)), Bins: new(uint32(2)),
		Codec: protocol.Spectrum_CODEC_RAW.Enum(), Levels: []byte{0, 3},
	}
	if got := levelsOf(t, s); got[0] != -100.25 || got[1] != -99.875 {
		t.Errorf("got %v, want [-100.25 -99.875]", got)
	}
}

func TestLevelsDBFSHz_Refuses(t *testing.T) {
	huffman := func(codes []byte) []byte {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(codes); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	make16 := func(change func(*protocol.Spectrum)) *protocol.Spectrum {
		s := spectrum(t)
		change(s)
		return s
	}
	deflated := func(bins uint32, levels []byte) *protocol.Spectrum {
		return make16(func(s *protocol.Spectrum) {
			s.Bins, s.Levels, s.Codec = new(bins), levels, protocol.Spectrum_CODEC_DEFLATE.Enum()
		})
	}
	for name, c := range map[string]struct {
		spectrum *protocol.Spectrum
		want     protocol.Code
	}{
		"no bins":       {make16(func(s *protocol.Spectrum) { s.Bins = nil }), protocol.CodeMalformed},
		"too many bins": {make16(func(s *protocol.Spectrum) { s.Bins = new(uint32(protocol.MaxBins + 1)) }), protocol.CodeTooMany},
		"no offset":     {make16(func(s *protocol.Spectrum) { s.OffsetDbfsHz = nil }), protocol.CodeMalformed},
		"no resolution": {make16(func(s *protocol.Spectrum) { s.ResolutionDb = nil }), protocol.CodeOutOfRange},
		"no codec":      {make16(func(s *protocol.Spectrum) { s.Codec = nil }), protocol.CodeMalformed},
		"a later codec": {make16(func(s *protocol.Spectrum) { s.Codec = protocol.Spectrum_Codec(9).Enum() }), protocol.CodeMalformed},
		"raw, too few":  {make16(func(s *protocol.Spectrum) { s.Levels = s.Levels[:3]; s.Codec = protocol.Spectrum_CODEC_RAW.Enum() }), protocol.CodeMalformed},
		"no stream":     {deflated(16, []byte{0xff, 0xff}), protocol.CodeMalformed},
		"too few":       {deflated(16, huffman(make([]byte, 15))), protocol.CodeMalformed},
		"too many":      {deflated(16, huffman(make([]byte, 17))), protocol.CodeMalformed},
		"a bomb":        {deflated(16, huffman(make([]byte, 1<<20))), protocol.CodeMalformed},
		"a cut stream":  {deflated(16, huffman(make([]byte, 16))[:3]), protocol.CodeMalformed},
	} {
		if levels, err := c.spectrum.LevelsDBFSHz(); code(err) != c.want {
			t.Errorf("%s: got %v, %v; want code %q", name, levels, err, c.want)
		}
		err := protocol.Validate(record(c.spectrum), now)
		if code(err) != c.want {
			t.Errorf("%s: Validate: got %v, want code %q", name, err, c.want)
		}
	}
}

func TestValidate_RefusesAbsurdLevels(t *testing.T) {
	for offset, resolution := range map[float32]float32{-401: 0.5, 0: 1e3, 999: 0.5} {
		s := spectrum(t)
		s.OffsetDbfsHz, s.ResolutionDb = &offset, &resolution
		checkError(t, "levels", protocol.Validate(record(s), now), protocol.Error{Code: protocol.CodeOutOfRange, Field: "spectrum.dbfs_hz"})
	}
}
