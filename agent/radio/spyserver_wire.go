package radio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/fulgidus/heimdall/dsp"
)

// The protocol of SpyServer, as its clients show it: version 2.0.1700, all numbers little-endian words of 32 bits.
const spyVersion = 2<<24 | 0<<16 | 1700

// Commands.
const (
	spyHello = 0
	spySet   = 2
)

// Settings of the command spySet.
const (
	spyMode        = 0 // 1: I/Q only
	spyEnabled     = 1
	spyGain        = 2 // index
	spyFormat      = 100
	spyFrequency   = 101
	spyDecimation  = 102 // power of two
	spyDigitalGain = 103 // dB
)

// Messages, in the lower half of their type. The upper half is the digital gain in dB that was applied.
const (
	spyDeviceInfo = 0
	spyClientSync = 1
	spyIQ         = 100 // and the next three: u8, s16, s24, f32
	spyIQEnd      = 104
)

const (
	spyHead     = 20      // bytes before the body of a message
	spyBodyMost = 1 << 20 // of a body; what says more is no SpyServer
)

// spyFormats are those of the samples in the messages from spyIQ on, in the order of their numbers for spyFormat, from 1 on.
var spyFormats = [...]struct {
	name  string
	width int // bytes of a pair
	to    dsp.Format
}{
	{"u8", 2, dsp.CU8}, {"s16", 4, dsp.CS16}, {"s24", 6, dsp.CF32}, {"f32", 8, dsp.CF32},
}

// spyMessage is the head of a message.
type spyMessage struct {
	kind   uint32
	gainDB float64 // digital gain applied
	seq    uint32
	size   int
}

// samples tells whether a message has samples in a format that is known.
func (m spyMessage) samples() bool { return m.kind >= spyIQ && m.kind < spyIQEnd }

// parseSpyHead reads the head of a message.
func parseSpyHead(b []byte) (m spyMessage, err error) {
	if version := binary.LittleEndian.Uint32(b); version>>16 != spyVersion>>16 {
		return m, fmt.Errorf("this is no SpyServer of protocol 2.0: a message begins with %08x", version)
	}
	kind, size := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[16:])
	if size > spyBodyMost {
		return m, fmt.Errorf("a message says it has %d bytes, more than the %d that the protocol allows", size, spyBodyMost)
	}
	return spyMessage{kind: kind & 0xffff, gainDB: float64(kind >> 16), seq: binary.LittleEndian.Uint32(b[12:]), size: int(size)}, nil
}

// readSpyMessage reads one message. The body is in memory that the next call uses again.
func readSpyMessage(r io.Reader, buf []byte) (m spyMessage, body, grown []byte, err error) {
	if cap(buf) < spyHead {
		buf = make([]byte, 1<<14)
	}
	if _, err := io.ReadFull(r, buf[:spyHead]); err != nil {
		return m, nil, buf, err
	}
	if m, err = parseSpyHead(buf[:spyHead]); err != nil {
		return m, nil, buf, err
	}
	buf = slices.Grow(buf[:0], m.size)
	if _, err := io.ReadFull(r, buf[:m.size]); err != nil {
		return m, nil, buf, err
	}
	return m, buf[:m.size], buf, nil
}

// spyDevice is what the server says of its receiver.
type spyDevice struct {
	kind, serial            uint32
	maxRate                 float64
	stages, leastDecimation uint32
	mostGain                uint32
	lowHz, highHz           float64
	bits                    uint32
	forced                  uint32 // number of the only format; 0: any
}

var errSpyNoDevice = errors.New("the server has no receiver")

func parseSpyDevice(b []byte) (d spyDevice, err error) {
	if len(b) < 48 {
		return d, fmt.Errorf("the description of the receiver has %d bytes, want 48", len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	d = spyDevice{
		kind: word(0), serial: word(1), maxRate: float64(word(2)), stages: word(4), mostGain: word(6),
		lowHz: float64(word(7)), highHz: float64(word(8)), bits: word(9), leastDecimation: word(10), forced: word(11),
	}
	if d.maxRate == 0 || d.kind == 0 {
		return d, errSpyNoDevice
	}
	if d.forced > uint32(len(spyFormats)) {
		return d, fmt.Errorf("the server forces the format %d, which is none of I/Q", d.forced)
	}
	d.stages = min(d.stages, 31)
	d.leastDecimation = min(d.leastDecimation, d.stages)
	return d, nil
}

// name is the receiver's, for people.
func (d *spyDevice) name() string {
	kind := "receiver"
	if names := []string{1: "Airspy", 2: "Airspy HF+", 3: "RTL-SDR"}; d.kind < uint32(len(names)) {
		kind = names[d.kind]
	}
	return fmt.Sprintf("SpyServer, %s %08X", kind, d.serial)
}

// rates are those on offer, highest first.
func (d *spyDevice) rates() []float64 {
	var all []float64
	for i := d.leastDecimation; i <= d.stages; i++ {
		all = append(all, d.rate(i))
	}
	return all
}

func (d *spyDevice) rate(stage uint32) float64 { return d.maxRate / float64(uint64(1)<<stage) }

// enough is the stage of the lowest rate that is not under a rate, or of the highest there is.
func (d *spyDevice) enough(hz float64) uint32 {
	stage := d.stages
	for stage > d.leastDecimation && d.rate(stage) < hz*(1-1e-3) {
		stage--
	}
	return stage
}

// decimation is the stage whose rate is near to a rate, and whether there is one.
func (d *spyDevice) decimation(hz float64) (stage uint32, found bool) {
	for i, rate := range d.rates() {
		if math.Abs(rate-hz) <= 1e-3*rate {
			return d.leastDecimation + uint32(i), true
		}
	}
	return 0, false
}

// spySync is what the server says of this client, at the start and after each change.
type spySync struct {
	control       bool
	gain          uint32
	centerHz      float64
	lowHz, highHz float64 // of the centre, for one that may not tune the receiver
}

func parseSpySync(b []byte) (s spySync, err error) {
	if len(b) < 36 {
		return s, fmt.Errorf("the state has %d bytes, want 36", len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	return spySync{word(0) != 0, word(1), float64(word(3)), float64(word(5)), float64(word(6))}, nil
}

// spySetting appends the command that sets a setting.
func spySetting(b []byte, setting, value uint32) []byte {
	for _, word := range []uint32{spySet, 8, setting, value} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}

// spyGreeting is the first command: version and name.
func spyGreeting(name string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, spyHello)
	b = binary.LittleEndian.AppendUint32(b, uint32(4+len(name)))
	return append(binary.LittleEndian.AppendUint32(b, spyVersion), name...)
}

// decodeSpy24 appends samples of 24 bits to dst as floats.
func decodeSpy24(dst, src []byte) []byte {
	for ; len(src) >= 6; src = src[6:] {
		for _, b := range [2][]byte{src[:3], src[3:6]} {
			v := int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24) >> 8
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v)/(1<<23)))
		}
	}
	return dst
}
