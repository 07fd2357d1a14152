package radio

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/dsp"
)

// The packets of ka9q-radio: status and commands are lists of type, length and value; samples come by RTP [RFC3550].

// First byte of what goes through a status group.
const (
	ka9qStatusPacket  = 0
	ka9qCommandPacket = 1
)

// Types of values. The numbers are those of radiod's own list; its documentation has others from 41 on.
const (
	ka9qEnd         = 0
	ka9qTag         = 1
	ka9qGPSTime     = 3 // ns since 1980-01-06, of the system's clock
	ka9qDescription = 4
	ka9qSnap        = 8 // the RTP timestamp that comes next
	ka9qInputRate   = 10
	ka9qDataDest    = 17
	ka9qSSRC        = 18
	ka9qRate        = 20
	ka9qPackets     = 22 // of samples, sent so far
	ka9qFrequency   = 33
	ka9qFirstLO     = 34
	ka9qShift       = 36
	ka9qLowEdge     = 39
	ka9qHighEdge    = 40
	ka9qBlockSize   = 42 // of the front end, in its samples
	ka9qDemod       = 48 // 0: linear
	ka9qChannels    = 49
	ka9qSidebands   = 50 // one in each channel
	ka9qPLL         = 51
	ka9qEnvelope    = 56
	ka9qAGC         = 62
	ka9qGain        = 68
	ka9qPreset      = 85
	ka9qFrontLow    = 100
	ka9qFrontHigh   = 101
	ka9qPayload     = 105
	ka9qEncoding    = 107
	ka9qLifetime    = 117 // blocks until the channel goes, 0: stays
)

// ka9qAll is the SSRC that stands for all channels: each answers with its status, and none is made.
const ka9qAll = 0xffffffff

// ka9qState is what a status packet says of a channel. What it does not say is zero, frequencies and levels NaN.
type ka9qState struct {
	ssrc        uint32
	tag         uint64
	gpsNs       uint64
	snap        uint32
	hasSnap     bool
	description string
	preset      string
	data        netip.AddrPort
	inputRate   float64
	rate        float64
	packets     uint64
	frequencyHz float64
	firstLOHz   float64
	low, high   float64 // edges of the filter, Hz from the frequency
	front       [2]float64
	blockSize   float64
	shiftHz     float64
	demod       uint64
	channels    uint64
	detected    bool // by sidebands, carrier or envelope: what comes is no plain I/Q
	agc         bool
	gainDB      float64
	payload     uint8
	encoding    uint8
	lifetime    uint64
}

var (
	errKa9qShort     = errors.New("a value is longer than its packet")
	errKa9qNoStatus  = errors.New("not a status packet")
	errKa9qNoChannel = errors.New("a status without a channel")
)

// parse reads a status packet over what was known; strings are allocated only when they changed.
func (s *ka9qState) parse(packet []byte) error {
	if len(packet) == 0 || packet[0] != ka9qStatusPacket {
		return errKa9qNoStatus
	}
	description, preset := s.description, s.preset
	nan := math.NaN()
	*s = ka9qState{frequencyHz: nan, firstLOHz: nan, low: nan, high: nan, front: [2]float64{nan, nan}, gainDB: nan, agc: true}
	for rest := packet[1:]; len(rest) > 0 && rest[0] != ka9qEnd; {
		kind := rest[0]
		value, after, err := ka9qValue(rest[1:])
		if err != nil {
			return err
		}
		rest = after
		switch kind {
		case ka9qDescription:
			s.description = keepText(description, value)
		case ka9qPreset:
			s.preset = keepText(preset, value)
		case ka9qDataDest:
			s.data = ka9qSocket(value)
		default:
			s.number(kind, value)
		}
	}
	if s.ssrc == 0 {
		return errKa9qNoChannel
	}
	return nil
}

// number reads a value that is a number.
func (s *ka9qState) number(kind byte, v []byte) {
	switch kind {
	case ka9qSSRC:
		s.ssrc = uint32(ka9qUint(v))
	case ka9qTag:
		s.tag = ka9qUint(v)
	case ka9qGPSTime:
		s.gpsNs = ka9qUint(v)
	case ka9qSnap:
		s.snap, s.hasSnap = uint32(ka9qUint(v)), true
	case ka9qInputRate:
		s.inputRate = float64(ka9qUint(v))
	case ka9qRate:
		s.rate = float64(ka9qUint(v))
	case ka9qPackets:
		s.packets = ka9qUint(v)
	case ka9qFrequency:
		s.frequencyHz = ka9qFloat64(v)
	case ka9qFirstLO:
		s.firstLOHz = ka9qFloat64(v)
	case ka9qLowEdge:
		s.low = ka9qFloat32(v)
	case ka9qHighEdge:
		s.high = ka9qFloat32(v)
	case ka9qFrontLow:
		s.front[0] = ka9qFloat32(v)
	case ka9qFrontHigh:
		s.front[1] = ka9qFloat32(v)
	case ka9qBlockSize:
		s.blockSize = float64(ka9qUint(v))
	case ka9qDemod:
		s.demod = ka9qUint(v)
	case ka9qChannels:
		s.channels = ka9qUint(v)
	case ka9qShift:
		s.shiftHz = ka9qFloat64(v)
	case ka9qSidebands, ka9qPLL, ka9qEnvelope:
		s.detected = s.detected || ka9qUint(v) != 0
	case ka9qAGC:
		s.agc = ka9qUint(v) != 0
	case ka9qGain:
		s.gainDB = ka9qFloat32(v)
	case ka9qPayload:
		s.payload = uint8(ka9qUint(v))
	case ka9qEncoding:
		s.encoding = uint8(min(ka9qUint(v), 255))
	case ka9qLifetime:
		s.lifetime = ka9qUint(v)
	}
}

// block is how long radiod's blocks are: it looks at commands, and at its clock, once in each.
func (s *ka9qState) block() time.Duration {
	const usual, least, most = 20 * time.Millisecond, time.Millisecond, time.Second
	if !(s.inputRate > 0 && s.blockSize > 0) {
		return usual
	}
	return min(max(time.Duration(s.blockSize/s.inputRate*1e9), least), most)
}

// time is the clock of the status, in UTC.
func (s *ka9qState) time() time.Time {
	t := gpsEpoch.Add(time.Duration(s.gpsNs))
	return t.Add(-leapSeconds(t))
}

// keepText is a value as text, which is the old one when it has not changed.
func keepText(old string, value []byte) string {
	if string(value) == old {
		return old
	}
	return string(value)
}

// ka9qValue splits a length and its value from what follows.
func ka9qValue(b []byte) (value, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errKa9qShort
	}
	n, b := int(b[0]), b[1:]
	if n >= 0x80 {
		long := n - 0x80
		if long > 3 || long > len(b) {
			return nil, nil, errKa9qShort
		}
		n = int(ka9qUint(b[:long]))
		b = b[long:]
	}
	if n > len(b) {
		return nil, nil, errKa9qShort
	}
	return b[:n], b[n:], nil
}

// ka9qUint reads a number whose leading zeros were left out.
func ka9qUint(v []byte) (n uint64) {
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	return n
}

func ka9qFloat64(v []byte) float64 { return math.Float64frombits(ka9qUint(v)) }

// ka9qFloat32 reads what should be a float32 and may be a float64.
func ka9qFloat32(v []byte) float64 {
	if len(v) > 4 {
		return ka9qFloat64(v)
	}
	return float64(math.Float32frombits(uint32(ka9qUint(v))))
}

func ka9qSocket(v []byte) netip.AddrPort {
	if len(v) != 6 && len(v) != 18 {
		return netip.AddrPort{}
	}
	addr, _ := netip.AddrFromSlice(v[:len(v)-2])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(v[len(v)-2:]))
}

// ka9qCommand is a command to a channel that is being written.
type ka9qCommand []byte

func newKa9qCommand(ssrc uint32, tag uint64) ka9qCommand {
	return ka9qCommand{ka9qCommandPacket}.number(ka9qSSRC, uint64(ssrc)).number(ka9qTag, tag)
}

func (c ka9qCommand) number(kind byte, v uint64) ka9qCommand {
	var all [8]byte
	binary.BigEndian.PutUint64(all[:], v)
	value := all[:]
	for len(value) > 0 && value[0] == 0 {
		value = value[1:]
	}
	return c.bytes(kind, value)
}

func (c ka9qCommand) float64(kind byte, v float64) ka9qCommand {
	return c.number(kind, math.Float64bits(v))
}

func (c ka9qCommand) float32(kind byte, v float64) ka9qCommand {
	return c.number(kind, uint64(math.Float32bits(float32(v))))
}

// bytes appends a value of under 128 bytes.
func (c ka9qCommand) bytes(kind byte, v []byte) ka9qCommand {
	return append(append(c, kind, byte(len(v))), v...)
}

func (c ka9qCommand) end() []byte { return append(c, ka9qEnd) }

// rtpPacket is the head of an RTP packet, and its samples.
type rtpPacket struct {
	payload   uint8
	seq       uint16
	timestamp uint32
	ssrc      uint32
	samples   []byte
}

// parseRTP reads a packet [RFC3550 5.1].
func parseRTP(b []byte) (p rtpPacket, ok bool) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return rtpPacket{}, false
	}
	p = rtpPacket{
		payload: b[1] & 0x7f, seq: binary.BigEndian.Uint16(b[2:]), timestamp: binary.BigEndian.Uint32(b[4:]),
		ssrc: binary.BigEndian.Uint32(b[8:]),
	}
	extended, padded := b[0]&0x10 != 0, b[0]&0x20 != 0
	head := 12 + 4*int(b[0]&0x0f)
	if extended {
		if len(b) < head+4 {
			return rtpPacket{}, false
		}
		head += 4 + 4*int(binary.BigEndian.Uint16(b[head+2:]))
	}
	end := len(b)
	if padded {
		end -= int(b[len(b)-1])
	}
	if head > end {
		return rtpPacket{}, false
	}
	p.samples = b[head:end]
	return p, true
}

// ka9qEncodings are those that carry samples as they are.
var ka9qEncodings = map[uint8]struct {
	name  string
	width int // bytes of an I/Q pair
	to    dsp.Format
}{
	1: {"s16le", 4, dsp.CS16},
	2: {"s16be", 4, dsp.CS16},
	4: {"f32le", 8, dsp.CF32},
	6: {"f16le", 4, dsp.CF32},
	8: {"f32be", 8, dsp.CF32},
	9: {"f16be", 4, dsp.CF32},
}

// ka9qEncodingNames lists them, and ka9qEncodingNumber finds one.
func ka9qEncodingNames() []string {
	var names []string
	for _, e := range ka9qEncodings {
		names = append(names, e.name)
	}
	slices.Sort(names)
	return names
}

func ka9qEncodingNumber(name string) uint8 {
	for number, e := range ka9qEncodings {
		if e.name == name {
			return number
		}
	}
	return 0
}

// decodeKa9q appends whole samples of an encoding to dst, in the format that belongs to it.
func decodeKa9q(dst, src []byte, encoding uint8) []byte {
	src = src[:len(src)-len(src)%ka9qEncodings[encoding].width]
	switch encoding {
	case 2:
		for i := 0; i < len(src); i += 2 {
			dst = append(dst, src[i+1], src[i])
		}
	case 6:
		for i := 0; i < len(src); i += 2 {
			dst = binary.LittleEndian.AppendUint32(dst, float16Bits(binary.LittleEndian.Uint16(src[i:])))
		}
	case 8:
		for i := 0; i < len(src); i += 4 {
			dst = binary.LittleEndian.AppendUint32(dst, binary.BigEndian.Uint32(src[i:]))
		}
	case 9:
		for i := 0; i < len(src); i += 2 {
			dst = binary.LittleEndian.AppendUint32(dst, float16Bits(binary.BigEndian.Uint16(src[i:])))
		}
	default:
		dst = append(dst, src...)
	}
	return dst
}

// float16Bits is the float32 of a float16 [IEEE 754], both as bits.
func float16Bits(h uint16) uint32 {
	sign, exponent, mantissa := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero, and what is smaller than the smallest normal number: mantissa × 2⁻²⁴
		return sign | math.Float32bits(float32(mantissa)*0x1p-24)
	case 31:
		return sign | 0x7f800000 | mantissa<<13
	}
	return sign | (exponent+112)<<23 | mantissa<<13
}

// ka9qAddress is the group that radiod makes of a name that no resolver knows: the FNV-1 hash of the name in 239/8, away from
// the addresses that switches take for those of the control block.
func ka9qAddress(name string) netip.Addr {
	hash := uint32(0x811c9dc5)
	for i := range len(name) {
		hash *= 0x01000193
		hash ^= uint32(name[i])
	}
	addr := 239<<24 | hash&0xffffff
	if addr&0x007fff00 == 0 {
		addr |= (addr & 0xff) << 8
	}
	if addr&0x007fff00 == 0 {
		addr |= 0x00100000
	}
	return netip.AddrFrom4([4]byte{byte(addr >> 24), byte(addr >> 16), byte(addr >> 8), byte(addr)})
}
