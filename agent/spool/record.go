package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fulgidus/heimdall/protocol"
)

// place is where a record stands among all that a file has ever held: numbers grow within an epoch, epochs one after
// another.
type place struct {
	epoch uint32
	seq   uint64
}

const keyBytes = 4 + 8

func (p place) key() []byte {
	k := make([]byte, 0, keyBytes)
	k = binary.BigEndian.AppendUint32(k, p.epoch)
	return binary.BigEndian.AppendUint64(k, p.seq)
}

func placeOf(key []byte) (place, bool) {
	if len(key) != keyBytes {
		return place{}, false
	}
	return place{binary.BigEndian.Uint32(key), binary.BigEndian.Uint64(key[4:])}, true
}

func (p place) less(o place) bool {
	return p.epoch < o.epoch || p.epoch == o.epoch && p.seq < o.seq
}

// after is the place behind p.
func (p place) after() place {
	if p.seq == math.MaxUint64 {
		return place{p.epoch + 1, 0}
	}
	return place{p.epoch, p.seq + 1}
}

func earlier(a, b place) place {
	if b.less(a) {
		return b
	}
	return a
}

func later(a, b place) place {
	if a.less(b) {
		return b
	}
	return a
}

// A stored value is: format (1 byte), flags (1), length of the kind (1), kind, time (8, ns), body, CRC-32C (4) of the
// key and all before. The body is the payload, or with flagSegment a reference to it.
const (
	recordFormat = 1
	flagSegment  = 1
	minRecord    = 3 + 8 + 4
	refBytes     = 4 + 8 + 4 + 4
	// indexBytes is what bbolt spends on an element beside key and value.
	indexBytes = 16
)

// errCorrupt says that a stored record is not what was stored.
var errCorrupt = errors.New("record is corrupt")

// segmentRef says where in the segment files a payload is.
type segmentRef struct {
	file   uint32
	offset uint64
	length uint32
	sum    uint32 // CRC-32C of the payload
}

// record is one stored record.
type record struct {
	kind    protocol.Kind
	time    int64 // ns
	payload []byte
	ref     *segmentRef // instead of a payload
}

func checksum(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once inside crc32
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// size is about how many bytes it takes to hand the record out.
func (r record) size() int {
	if r.ref != nil {
		return int(min(r.ref.length, maxPayload))
	}
	return len(r.payload)
}

// encode is the record as stored under key.
func (r record) encode(key []byte) []byte {
	v := make([]byte, 0, minRecord+len(r.kind)+max(len(r.payload), refBytes))
	flags := byte(0)
	if r.ref != nil {
		flags = flagSegment
	}
	v = append(v, recordFormat, flags, byte(len(r.kind)))
	v = append(v, r.kind...)
	v = binary.BigEndian.AppendUint64(v, uint64(r.time))
	if r.ref != nil {
		v = binary.BigEndian.AppendUint32(v, r.ref.file)
		v = binary.BigEndian.AppendUint64(v, r.ref.offset)
		v = binary.BigEndian.AppendUint32(v, r.ref.length)
		v = binary.BigEndian.AppendUint32(v, r.ref.sum)
	} else {
		v = append(v, r.payload...)
	}
	return binary.BigEndian.AppendUint32(v, checksum(key, v))
}

// decodeRecord reads a stored value; the payload is a copy. Every failure wraps errCorrupt.
func decodeRecord(key, value []byte) (record, error) {
	if len(value) < minRecord {
		return record{}, fmt.Errorf("%w: %d bytes", errCorrupt, len(value))
	}
	body, tail := value[:len(value)-4], value[len(value)-4:]
	if got, want := checksum(key, body), binary.BigEndian.Uint32(tail); got != want {
		return record{}, fmt.Errorf("%w: checksum %08x, stored %08x", errCorrupt, got, want)
	}
	if body[0] != recordFormat {
		return record{}, fmt.Errorf("%w: format %d", errCorrupt, body[0])
	}
	flags, kindLen := body[1], int(body[2])
	if len(body) < 3+kindLen+8 {
		return record{}, fmt.Errorf("%w: kind of %d bytes", errCorrupt, kindLen)
	}
	r := record{kind: kindOf(body[3 : 3+kindLen])}
	r.time = int64(binary.BigEndian.Uint64(body[3+kindLen:]))
	body = body[3+kindLen+8:]
	if flags&flagSegment == 0 {
		r.payload = bytes.Clone(body)
		return r, nil
	}
	if len(body) != refBytes {
		return record{}, fmt.Errorf("%w: reference of %d bytes", errCorrupt, len(body))
	}
	r.ref = readRef(body)
	return r, nil
}

// kindOf is a kind by its name; a common one costs no memory.
func kindOf(name []byte) protocol.Kind {
	for _, lane := range laneNames {
		if string(name) == string(lane) {
			return protocol.Kind(lane)
		}
	}
	return protocol.Kind(name)
}

// keyBefore finds the key that a corrupt record had before one bit of it changed, if that is all that happened to it.
func keyBefore(key, value []byte) (place, bool) {
	was := bytes.Clone(key)
	for i := range 8 * len(was) {
		was[i/8] ^= 1 << (i % 8)
		if _, err := decodeRecord(was, value); err == nil {
			return placeOf(was)
		}
		was[i/8] ^= 1 << (i % 8)
	}
	return place{}, false
}

func readRef(b []byte) *segmentRef {
	return &segmentRef{
		file:   binary.BigEndian.Uint32(b),
		offset: binary.BigEndian.Uint64(b[4:]),
		length: binary.BigEndian.Uint32(b[12:]),
		sum:    binary.BigEndian.Uint32(b[16:]),
	}
}

// RecordBytes is what a record of a kind counts in the limit of a spool, by the size of its payload.
func RecordBytes(kind protocol.Kind, payload int) int64 {
	return int64(minRecord + len(kind) + payload + keyBytes + indexBytes)
}

// weigh is what a stored value takes on disk, with its payload in a segment file if it has one there; it trusts no byte.
func weigh(value []byte) (int64, *segmentRef) {
	size := int64(len(value) + keyBytes + indexBytes)
	if len(value) < minRecord || value[1]&flagSegment == 0 {
		return size, nil
	}
	at := 3 + int(value[2]) + 8
	if len(value) != at+refBytes+4 {
		return size, nil
	}
	ref := readRef(value[at:])
	return size + int64(ref.length), ref
}

// statedTime is the time of a stored value; it trusts no byte.
func statedTime(value []byte) int64 {
	if len(value) < minRecord || len(value) < minRecord+int(value[2]) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value[3+int(value[2]):]))
}

// recordTime is the time an encoded record states, or otherwise when it has none.
func recordTime(payload []byte, otherwise time.Time) int64 {
	const fieldTime = 4
	for b := payload; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		if num == fieldTime && typ == protowire.Fixed64Type {
			if v, n := protowire.ConsumeFixed64(b); n > 0 {
				return int64(v)
			}
			break
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			break
		}
		b = b[n:]
	}
	return otherwise.UnixNano()
}
