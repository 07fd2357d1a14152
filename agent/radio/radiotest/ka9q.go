package radiotest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Radiod stands in for the daemon of ka9q-radio: status, commands and samples by multicast on loopback, with its block times,
// its order of samples and answers, and its habit of beginning a channel anew at another rate. Its samples are their own
// timestamps, which RadiodCount reads.
type Radiod struct {
	Group netip.AddrPort // of status and commands
	Data  netip.AddrPort // of samples

	setup   RadiodSetup
	control *net.UDPConn
	out     *net.UDPConn
	done    chan struct{} // closed by Close
	runs    sync.WaitGroup
	once    sync.Once

	// mu guards the fields below.
	mu       sync.Mutex
	channels []*radiodChannel
	blocks   int
	packets  int
	commands int
	all      int // channels that still have to answer a question to all
	retunes  []RadiodRetune
}

// RadiodSetup is the state that a Radiod starts in, with its faults. The zero value is a healthy daemon without channels.
type RadiodSetup struct {
	Channels []RadiodChannel
	Static   bool // has no line "data =", so that channels cannot be made
	Deaf     bool // answers nothing
	Silent   bool // counts packets and sends none
	Locked   bool // ignores new frequencies

	// Mangle turns packet number n of samples into those that go out: none, several, others. Nil: as it is.
	Mangle func(n int, packet []byte) [][]byte
	// Muted tells whether block number n is muted: not sent, though its timestamps pass. Nil: none.
	Muted func(n int) bool
	// Noise sends, beside each packet, one of another channel with the same numbers, and garbage.
	Noise bool
	// Skew is radiod's clock less the true one.
	Skew time.Duration
}

// RadiodChannel is a channel as radiod's config sets it up. Zero values are those of the preset iq.
type RadiodChannel struct {
	SSRC           uint32
	CenterHz       float64
	Rate           int     // 0: 12000
	Encoding       uint8   // 0: 2, s16be
	Mono           bool    // no I/Q
	Preset         string  // empty: iq
	AGC            bool    //
	GainDB         float64 //
	FirstSeq       uint16
	FirstTimestamp uint32
	Lifetime       int // blocks; 0: for ever
}

// RadiodRetune is a change of frequency: the first sample of the new one.
type RadiodRetune struct {
	CenterHz  float64
	Timestamp uint32
}

type radiodChannel struct {
	RadiodChannel
	low, high float64
	payload   uint8
	seq       uint16
	timestamp uint32
	tag       uint64
	life      int
	sent      uint64
	silent    bool
	queue     [][]byte
	respond   bool
}

const (
	radiodBlock     = 20 * time.Millisecond
	radiodFrontRate = 64_800_000
	radiodBytes     = 1440 // of samples in a packet
)

// NewRadiod starts one, on a group of its own, and ends it with the test.
func NewRadiod(t testing.TB, setup RadiodSetup) *Radiod {
	t.Helper()
	var n [5]byte
	rand.Read(n[:])
	group := netip.AddrFrom4([4]byte{239, 1 + n[0]%120, n[1], n[2]})
	port := 20000 + binary.BigEndian.Uint16(n[3:])%12000&^1 // below those that systems give to sockets without one
	r := &Radiod{
		Group: netip.AddrPortFrom(group, port+1), Data: netip.AddrPortFrom(group.Next(), port),
		setup: setup, done: make(chan struct{}),
	}
	var err error
	if r.control, err = net.ListenMulticastUDP("udp4", loopbackInterface(t), net.UDPAddrFromAddrPort(r.Group)); err != nil {
		t.Fatalf("listen to %s: %v", r.Group, err)
	}
	if r.out, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range setup.Channels {
		r.channels = append(r.channels, newRadiodChannel(c))
	}
	r.runs.Go(r.listen)
	r.runs.Go(r.run)
	t.Cleanup(r.Close)
	return r
}

func loopbackInterface(t testing.TB) *net.Interface {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, ifi := range all {
		if ifi.Flags&net.FlagLoopback != 0 {
			return &ifi
		}
	}
	t.Fatal("this machine has no loopback interface")
	return nil
}

func newRadiodChannel(c RadiodChannel) *radiodChannel {
	if c.Rate == 0 {
		c.Rate = 12000
	}
	if c.Encoding == 0 {
		c.Encoding = 2
	}
	if c.Preset == "" {
		c.Preset = "iq"
	}
	return &radiodChannel{
		RadiodChannel: c, low: -5000, high: 5000, payload: 77 + c.Encoding, seq: c.FirstSeq, timestamp: c.FirstTimestamp,
		life: c.Lifetime, silent: true,
	}
}

// Close ends it.
func (r *Radiod) Close() {
	r.once.Do(func() {
		close(r.done)
		r.control.Close() //nolint:errcheck // there is nothing to lose
		r.runs.Wait()
		r.out.Close() //nolint:errcheck // there is nothing to lose
	})
}

// URL is the source of a channel.
func (r *Radiod) URL(ssrc uint32, parameters string) string {
	return fmt.Sprintf("ka9q://%s/%d%s", r.Group, ssrc, parameters)
}

// Retunes are the changes of frequency so far.
func (r *Radiod) Retunes() []RadiodRetune {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]RadiodRetune(nil), r.retunes...)
}

// Channels are the numbers of the channels that it has now.
func (r *Radiod) Channels() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []uint32
	for _, c := range r.channels {
		all = append(all, c.SSRC)
	}
	return all
}

// Commands is how many commands came that change something.
func (r *Radiod) Commands() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commands
}

// Command has a channel obey a command of another client.
func (r *Radiod) Command(ssrc uint32, values map[byte][]byte) {
	packet := radiodValue(radiodValue([]byte{1}, 18, radiodUint(uint64(ssrc))), 1, []byte{9, 9, 9})
	for kind, v := range values {
		packet = radiodValue(packet, kind, v)
	}
	r.receive(append(packet, 0))
}

// RadiodFrequency is the value of a command that tunes a channel, which is of type 33.
func RadiodFrequency(hz float64) []byte { return radiodUint(math.Float64bits(hz)) }

// listen takes commands.
func (r *Radiod) listen() {
	buf := make([]byte, 1<<16)
	for {
		n, err := r.control.Read(buf)
		if err != nil {
			return
		}
		if n >= 3 && buf[0] == 1 && !r.setup.Deaf {
			r.receive(append([]byte(nil), buf[:n]...))
		}
	}
}

func (r *Radiod) receive(packet []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	values := radiodValues(packet[1:])
	ssrc := uint32(radiodNumber(values[18]))
	switch ssrc {
	case 0:
		return
	case 0xffffffff:
		r.all = len(r.channels)
		return
	}
	c := r.find(ssrc)
	if c == nil {
		if r.setup.Static {
			return
		}
		c = newRadiodChannel(RadiodChannel{SSRC: ssrc, AGC: true, GainDB: 50, Mono: true, Preset: "none", FirstTimestamp: uint32(r.blocks * 240)})
		r.channels = append(r.channels, c)
	}
	if len(c.queue) < 10 {
		c.queue = append(c.queue, packet)
	}
}

func (r *Radiod) find(ssrc uint32) *radiodChannel {
	for _, c := range r.channels {
		if c.SSRC == ssrc {
			return c
		}
	}
	return nil
}

// run makes a block of each channel every 20 ms.
func (r *Radiod) run() {
	next := time.Now()
	for {
		next = next.Add(radiodBlock)
		select {
		case <-r.done:
			return
		case <-time.After(time.Until(next)):
		}
		r.mu.Lock()
		kept := r.channels[:0]
		for _, c := range r.channels {
			if r.block(c) {
				kept = append(kept, c)
			}
		}
		r.channels = kept
		for range min(4, r.all) { // a question to all is answered by four in each block
			r.status(r.channels[min(r.all, len(r.channels))-1])
			r.all--
		}
		r.blocks++
		r.mu.Unlock()
	}
}

// block is one turn of a channel: answer what came in the last one, obey, make samples. It is false when its life is over.
func (r *Radiod) block(c *radiodChannel) bool {
	if c.respond {
		r.status(c)
		c.respond = false
	}
	if len(c.queue) > 0 {
		command := c.queue[0]
		c.queue = c.queue[1:]
		c.respond = true
		if r.obey(c, radiodValues(command[1:])) {
			r.status(c)
			c.respond = false
			c.timestamp = uint32(r.blocks * c.Rate / 50)
			return true // this block goes on the restart
		}
	}
	if c.life > 0 {
		if c.life--; c.life == 0 {
			return false
		}
	}
	frames := c.Rate / 50
	if r.setup.Muted != nil && r.setup.Muted(r.blocks) || c.CenterHz == 0 {
		c.timestamp += uint32(frames)
		c.silent = true
		return true
	}
	for frames > 0 {
		frames -= r.send(c, frames)
	}
	return true
}

// obey takes the values of a command over. It is true when the channel must begin anew.
func (r *Radiod) obey(c *radiodChannel, values map[byte][]byte) (restart bool) {
	c.life = c.Lifetime
	c.tag = radiodNumber(values[1])
	if len(values) > 2 {
		r.commands++
	}
	if name := string(values[85]); name == "iq" {
		c.Preset, c.Mono, c.AGC, c.low, c.high = name, false, true, -5000, 5000
		restart = c.Rate != 12000
		c.Rate = 12000
	}
	for kind, v := range values {
		n := radiodNumber(v)
		switch kind {
		case 20:
			if rate := int(n) / 50 * 50; rate > 0 && rate != c.Rate {
				c.Rate, restart = rate, true
			}
		case 33:
			if hz := math.Float64frombits(n); hz != c.CenterHz && !r.setup.Locked {
				c.CenterHz = hz
				r.retunes = append(r.retunes, RadiodRetune{hz, c.timestamp})
			}
		case 39:
			c.low = float64(math.Float32frombits(uint32(n)))
		case 40:
			c.high = float64(math.Float32frombits(uint32(n)))
		case 49:
			c.Mono = n == 1
		case 62:
			c.AGC = n != 0
		case 68:
			c.GainDB, c.AGC = float64(math.Float32frombits(uint32(n))), false
		case 107:
			c.Encoding = uint8(n)
		case 117:
			c.Lifetime, c.life = int(n), int(n)
		}
	}
	if gain, given := values[68]; given {
		c.GainDB, c.AGC = float64(math.Float32frombits(uint32(radiodNumber(gain)))), false
	}
	if !restart {
		c.payload = 77 + c.Encoding // a new rate keeps the old number, as in the original
	}
	return restart
}

// send sends one packet of samples, and says how many are in it.
func (r *Radiod) send(c *radiodChannel, frames int) int {
	channels := 2
	if c.Mono {
		channels = 1
	}
	width := channels * map[uint8]int{1: 2, 2: 2, 4: 4, 6: 2, 8: 4, 9: 2}[c.Encoding]
	if width == 0 {
		return frames // compressed: not played here
	}
	frames = min(frames, radiodBytes/width)
	head := byte(0)
	if c.silent {
		head, c.silent = 0x80, false
	}
	packet := make([]byte, 12, 12+frames*width)
	packet[0], packet[1] = 2<<6, head|c.payload
	binary.BigEndian.PutUint16(packet[2:], c.seq)
	binary.BigEndian.PutUint32(packet[4:], c.timestamp)
	binary.BigEndian.PutUint32(packet[8:], c.SSRC)
	for i := range frames {
		packet = radiodSample(packet, c.Encoding, c.timestamp+uint32(i))
		if c.Mono {
			packet = packet[:len(packet)-width]
		}
	}
	c.seq++
	c.sent++
	c.timestamp += uint32(frames)
	out := [][]byte{packet}
	if r.setup.Mangle != nil {
		out = r.setup.Mangle(r.packets, packet)
	}
	r.packets++
	for _, p := range out {
		r.emit(p)
	}
	return frames
}

func (r *Radiod) emit(packet []byte) {
	if r.setup.Silent {
		return
	}
	if r.setup.Noise {
		other := append([]byte(nil), packet...)
		binary.BigEndian.PutUint32(other[8:], binary.BigEndian.Uint32(packet[8:])+1)
		r.write(other, r.Data)
		var garbage [64]byte
		rand.Read(garbage[:])
		r.write(garbage[:1+garbage[0]%63], r.Data)
		r.write(garbage[:1+garbage[1]%63], r.Group)
	}
	r.write(packet, r.Data)
}

func (r *Radiod) write(packet []byte, to netip.AddrPort) {
	r.out.WriteToUDPAddrPort(packet, to) //nolint:errcheck // datagrams get lost
}

// status sends the state of a channel to the status group.
func (r *Radiod) status(c *radiodChannel) {
	if r.setup.Deaf {
		return
	}
	gps := time.Now().Add(r.setup.Skew).UnixNano() - 315964800e9 + 18e9
	float := func(v float64) []byte { return radiodUint(uint64(math.Float32bits(float32(v)))) }
	flag := func(on bool) []byte {
		if on {
			return []byte{1}
		}
		return nil
	}
	channels := uint64(2)
	if c.Mono {
		channels = 1
	}
	data := r.Data.Addr().As4()
	p := []byte{0}
	for _, v := range []struct {
		kind  byte
		value []byte
	}{
		{18, radiodUint(uint64(c.SSRC))},
		{1, radiodUint(c.tag)},
		{4, []byte("RX888 of a test, with a description that is longer than the one hundred and twenty-seven bytes which the short form of a length can tell")},
		{117, radiodUint(uint64(c.life))},
		{3, radiodUint(uint64(gps))},
		{10, radiodUint(radiodFrontRate)},
		{102, flag(true)},
		{100, float(15000)},
		{101, float(0.47 * radiodFrontRate)},
		{33, RadiodFrequency(c.CenterHz)},
		{34, nil},
		{42, radiodUint(radiodFrontRate / 50)},
		{48, nil},
		{85, []byte(c.Preset)},
		{39, float(c.low)},
		{40, float(c.high)},
		{20, radiodUint(uint64(c.Rate))},
		{49, radiodUint(channels)},
		{51, nil},
		{56, nil},
		{36, nil},
		{62, flag(c.AGC)},
		{50, nil},
		{68, float(c.GainDB)},
		{8, radiodUint(uint64(c.timestamp))},
		{22, radiodUint(c.sent)},
		{17, append(data[:], byte(r.Data.Port()>>8), byte(r.Data.Port()))},
		{105, []byte{c.payload}},
		{107, radiodUint(uint64(c.Encoding))},
	} {
		p = radiodValue(p, v.kind, v.value)
	}
	r.write(append(p, 0), r.Group)
}

// radiodValue appends a value with its type and length.
func radiodValue(p []byte, kind byte, v []byte) []byte {
	if len(v) < 128 {
		return append(append(p, kind, byte(len(v))), v...)
	}
	return append(append(p, kind, 0x82, byte(len(v)>>8), byte(len(v))), v...)
}

// radiodUint is a number without its leading zeros.
func radiodUint(n uint64) []byte {
	v := binary.BigEndian.AppendUint64(nil, n)
	for len(v) > 0 && v[0] == 0 {
		v = v[1:]
	}
	return v
}

func radiodNumber(v []byte) (n uint64) {
	for _, b := range v {
		n = n<<8 + uint64(b)
	}
	return n
}

// radiodValues reads a command, as far as it makes sense.
func radiodValues(p []byte) map[byte][]byte {
	values := map[byte][]byte{}
	for len(p) > 2 && p[0] != 0 && p[1] < 128 && len(p) >= 2+int(p[1]) {
		values[p[0]] = p[2 : 2+p[1]]
		p = p[2+p[1]:]
	}
	return values
}

// radiodSample appends the sample whose value is n.
func radiodSample(p []byte, encoding uint8, n uint32) []byte {
	low, high := uint16(n), uint16(n>>16)
	i, q := math.Float32bits(float32(low)/65536), math.Float32bits(float32(high)/65536)
	switch encoding {
	case 1:
		return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(p, low), high)
	case 4:
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(p, i), q)
	case 6:
		return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(p, half(n)), half(n>>10))
	case 8:
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(p, i), q)
	case 9:
		return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(p, half(n)), half(n>>10))
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(p, low), high)
}

// half is the float16 of the last ten bits of n over 1024.
func half(n uint32) uint16 {
	m := uint16(n & 0x3ff)
	if m == 0 {
		return 0
	}
	exponent := uint16(14)
	for m&0x200 == 0 {
		m <<= 1
		exponent--
	}
	return exponent<<10 | m<<1&0x3ff
}

// RadiodCount reads the number that a sample of a Radiod is, of bits bits: width is the sample's size in bytes as the receiver
// delivers it, and float16 tells that it came as such.
func RadiodCount(sample []byte, float16 bool) (n uint32, bits int) {
	if len(sample) == 4 {
		return binary.LittleEndian.Uint32(sample), 32
	}
	i := math.Float32frombits(binary.LittleEndian.Uint32(sample))
	q := math.Float32frombits(binary.LittleEndian.Uint32(sample[4:]))
	if float16 {
		return uint32(i*1024) | uint32(q*1024)<<10, 20
	}
	return uint32(i*65536) | uint32(q*65536)<<16, 32
}
