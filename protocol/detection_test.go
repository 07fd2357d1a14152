package protocol_test

import (
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func TestParseDetectionID(t *testing.T) {
	spool := [protocol.SpoolBytes]byte{0x9f, 0x3c, 0x5a, 0x1e, 0x77, 0xb0, 0xc2, 0x14}
	for _, station := range []string{"giaveno", "passo-dei-giovi", "a-1", "0-9f3c5a1e77b0c214-97"} {
		for _, seq := range []uint64{1, 97, protocol.MaxSeq} {
			want := protocol.Stream{Station: station, Spool: spool}
			id := protocol.DetectionID(want, seq)
			if stream, n, err := protocol.ParseDetectionID(id); err != nil || stream != want || n != seq {
				t.Errorf("%s: %v, %d, %v", id, stream, n, err)
			}
		}
	}
	for _, id := range []string{
		"", "-", "--", "giaveno", "giaveno-97", "9f3c5a1e77b0c214-97", "giaveno-9f3c5a1e77b0c214-", "giaveno-9f3c5a1e77b0c214-0",
		"giaveno-9f3c5a1e77b0c214-+97", "giaveno-9f3c5a1e77b0c214-097", "giaveno-9F3C5A1E77B0C214-97", "giaveno-9f3c5a1e77b0c2-97",
		"Giaveno-9f3c5a1e77b0c214-97", "all-9f3c5a1e77b0c214-97", "giaveno-9f3c5a1e77b0c214-9223372036854775807",
		"giaveno-9f3c5a1e77b0c214-97/../x", "../giaveno-9f3c5a1e77b0c214-97", "giaveno\x00-9f3c5a1e77b0c214-97",
	} {
		if stream, n, err := protocol.ParseDetectionID(id); code(err) != protocol.CodeMalformed {
			t.Errorf("%q: %v, %d, %v, want malformed", id, stream, n, err)
		}
	}
}

func FuzzParseDetectionID(f *testing.F) {
	f.Add("passo-dei-giovi-9f3c5a1e77b0c214-97")
	f.Add("giaveno-9f3c5a1e77b0c214-9223372036854775806")
	f.Fuzz(func(t *testing.T, id string) {
		stream, seq, err := protocol.ParseDetectionID(id)
		if err == nil && protocol.DetectionID(stream, seq) != id {
			t.Errorf("%q came back as %q", id, protocol.DetectionID(stream, seq))
		}
	})
}
