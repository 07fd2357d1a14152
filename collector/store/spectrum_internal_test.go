package store

import (
	"bytes"
	"compress/flate"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func FuzzRawLevels(f *testing.F) {
	var small bytes.Buffer
	w, err := flate.NewWriter(&small, flate.BestCompression)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(int32(protocol.Spectrum_CODEC_DEFLATE), uint32(1000), small.Bytes())
	f.Add(int32(protocol.Spectrum_CODEC_DEFLATE), uint32(999), small.Bytes())
	f.Add(int32(protocol.Spectrum_CODEC_RAW), uint32(3), []byte{1, 2, 3})
	f.Add(int32(9), uint32(3), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, codec int32, bins uint32, levels []byte) {
		s := &protocol.Spectrum{Codec: new(protocol.Spectrum_Codec(codec)), Bins: &bins, Levels: levels}
		raw, err := rawLevels(s)
		if err == nil && (len(raw) != int(bins) || len(raw) > protocol.MaxBins) {
			t.Errorf("%d levels of %d bins", len(raw), bins)
		}
		if err != nil && classify(err) != ClassRecord {
			t.Errorf("%v is not the record's fault", err)
		}
	})
}
