package protocol_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fulgidus/heimdall/protocol"
)

// zstdBomb is a frame (RFC 8878) as long as a message may be, of blocks of 4 bytes that each stand for 128 KiB of one byte.
func zstdBomb() []byte {
	bomb := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68} // magic number, no content size, window of 8 MiB
	for len(bomb) < protocol.MaxMessageBytes-4 {
		const header = 128<<10<<3 | 1<<1 // size, RLE, not the last
		bomb = append(bomb, header&0xff, header>>8&0xff, header>>16, 0)
	}
	return bomb
}

// zstdBoast is a frame of one small block that announces content of 1 TiB.
func zstdBoast() []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 0x01, 0, 0}
}

// manyRanges is a message whose list of a field has n ranges.
func manyRanges(field protowire.Number, n int) []byte {
	one := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), one), n)
}

// multirange is the text of n ranges with holes.
func multirange(n int) string {
	var text strings.Builder
	text.WriteByte('{')
	for i := range n {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "[%d,%d)", 1_000_000+2*i, 1_000_001+2*i)
	}
	text.WriteByte('}')
	return text.String()
}

// TestDecoders_SpendNoMoreThanABound gives every decoder little that claims to be a lot. None may allocate, in all, more than a
// few times what the limits allow of it.
func TestDecoders_SpendNoMoreThanABound(t *testing.T) {
	record := func(payload []byte) func() error {
		return func() error {
			_, err := protocol.Decode(payload)
			return err
		}
	}
	ack := func(payload []byte) func() error {
		return func() error {
			_, err := protocol.DecodeAck(payload)
			return err
		}
	}
	batch := func(payload []byte) func() error {
		return func() error {
			_, err := protocol.DecodeBatch(payload)
			return err
		}
	}
	ranges := func(text string) func() error {
		return func() error {
			_, err := protocol.ParseMultirange(text)
			return err
		}
	}
	deep := func(open string, n int) []byte { return []byte(`{"unknown":` + strings.Repeat(open, n)) }
	gap := func(n int) []byte { // a record of nothing but the ranges of a gap
		return protowire.AppendBytes(protowire.AppendTag(nil, 20, protowire.BytesType), manyRanges(2, n))
	}
	text := multirange(60_000) // 1 MB
	for name, c := range map[string]struct {
		decode func() error
		most   uint64 // bytes allocated
		fine   bool   // it is valid
	}{
		"a zstd bomb":                   {batch(zstdBomb()), 8 * protocol.MaxBatchBytes, false},
		"a zstd frame that boasts":      {batch(zstdBoast()), 8 * protocol.MaxBatchBytes, false},
		"a batch of ranges":             {batch(compress(t, element(gap(1_000_000)))), 8 * protocol.MaxBatchBytes, false},
		"a record of a million ranges":  {record(gap(1_000_000)), 1 << 20, false},
		"a record full of ranges":       {record(gap(protocol.MaxMessageBytes/4 - 10)), 16 << 20, false},
		"an Ack of a million ranges":    {ack(manyRanges(2, 1_000_000)), 1 << 20, false},
		"an Ack full of ranges":         {ack(manyRanges(2, protocol.MaxMessageBytes/4)), 16 << 20, true},
		"a record of nested arrays":     {record(deep("[", protocol.MaxMessageBytes-20)), 16 << 20, false},
		"a record of nested objects":    {record(deep(`{"a":`, 26_000)), 16 << 20, false},
		"an Ack of nested arrays":       {ack(deep("[", protocol.MaxMessageBytes-20)), 16 << 20, false},
		"a record of nested arrays 1MB": {record(deep("[", 1<<20)), 1 << 20, false},
		"a long multirange":             {ranges(text), 16 << 20, true},
		"a long broken multirange":      {ranges(text[:len(text)-1] + ",}"), 16 << 20, false},
		"a multirange of nothing":       {ranges("{" + strings.Repeat(" ", 1<<20) + "}"), 1 << 20, true},
		"a multirange of brackets":      {ranges("{" + strings.Repeat("[", 1<<20) + "}"), 1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.decode()
			runtime.ReadMemStats(&after)
			if (err == nil) != c.fine {
				t.Errorf("decoded: %v", err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			spent := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB allocated, %v", spent>>10, err)
			if spent > c.most {
				t.Errorf("%d bytes allocated, want at most %d", spent, c.most)
			}
		})
	}
}
