package radiotest

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"
)

// SpyServer stands in for Airspy's server, as its clients show it. Its samples count: SpyCount reads them. Every client gets
// them from the same receiver, so that one retunes for all.
type SpyServer struct {
	Addr string

	setup    SpySetup
	listener net.Listener
	runs     sync.WaitGroup
	done     chan struct{} // closed by Close
	once     sync.Once

	// mu guards the fields below.
	mu      sync.Mutex
	clients map[*spyClient]bool
	gain    uint32
	center  uint32
}

// SpySetup is what a SpyServer is, with its faults. The zero value is a healthy Airspy HF+ of 768 ksps.
type SpySetup struct {
	Device          uint32 // 1 Airspy, 2 HF+, 3 RTL-SDR; 0: 2
	MaxRate         uint32 // 0: 768000
	Stages          uint32 // 0: 6
	LeastDecimation uint32
	Forced          uint32 // number of the only format; 0: any
	FirstSeq        uint32

	NoSync    bool // never tells the client's state
	NoControl bool // lets the client go only where the receiver is
	Full      bool // ends the connection after the greeting
	NoDevice  bool // has lost its receiver
	Silent    bool // sends no samples
	Deaf      bool // says nothing at all
	Garbage   bool // is no SpyServer
	Big       bool // says that a body has 2 MiB
	Slow      bool // sends one byte a second

	// Lose tells whether IQ message n is thrown away. Nil: none.
	Lose func(n uint32) bool
	// Samples is how many are in IQ message n. Nil: 20 ms.
	Samples func(n uint32) int
}

// NewSpyServer starts one on a free port of loopback, and ends it with the test.
func NewSpyServer(t testing.TB, setup SpySetup) *SpyServer {
	t.Helper()
	if setup.Device == 0 {
		setup.Device = 2
	}
	if setup.MaxRate == 0 {
		setup.MaxRate = 768000
	}
	if setup.Stages == 0 {
		setup.Stages = 6
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives until Close
	if err != nil {
		t.Fatal(err)
	}
	s := &SpyServer{
		Addr: listener.Addr().String(), setup: setup, listener: listener, done: make(chan struct{}),
		clients: map[*spyClient]bool{}, gain: 3, center: 7_100_000,
	}
	s.runs.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// Close ends it.
func (s *SpyServer) Close() {
	s.once.Do(func() {
		close(s.done)
		s.listener.Close()
		s.mu.Lock()
		for c := range s.clients {
			c.conn.Close()
		}
		s.mu.Unlock()
		s.runs.Wait()
	})
}

// URL is its source.
func (s *SpyServer) URL(parameters string) string { return "spyserver://" + s.Addr + parameters }

// Retune has another client, who is in control, tune the receiver.
func (s *SpyServer) Retune(hz uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.center = hz
	for c := range s.clients {
		c.center = hz
		c.sync()
	}
}

// Gain has another client set the index of the gain.
func (s *SpyServer) Gain(index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gain = index
	for c := range s.clients {
		c.sync()
	}
}

// DigitalGain changes the digital gain of all clients, as the server's automatic does.
func (s *SpyServer) DigitalGain(db uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.digital = db
	}
}

func (s *SpyServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		c := &spyClient{server: s, conn: conn, out: bufio.NewWriter(conn), seq: s.setup.FirstSeq, format: 2, center: s.center}
		s.clients[c] = true
		s.mu.Unlock()
		s.runs.Go(func() {
			defer func() {
				s.mu.Lock()
				delete(s.clients, c)
				s.mu.Unlock()
				conn.Close()
			}()
			c.serve()
		})
	}
}

// spyClient is one connection. The server's mu guards it.
type spyClient struct {
	server *SpyServer
	conn   net.Conn
	out    *bufio.Writer

	enabled    bool
	mode       uint32
	format     uint32
	center     uint32
	decimation uint32
	digital    uint32
	seq        uint32
	count      uint64 // of samples
	begun      time.Time
	made       float64 // seconds of samples since then
}

// serve obeys commands.
func (c *spyClient) serve() {
	stopped := make(chan struct{}) // closed when the connection has ended
	streaming := make(chan struct{})
	go func() {
		defer close(streaming)
		c.stream(stopped)
	}()
	defer func() { <-streaming }()
	defer close(stopped)
	in := bufio.NewReader(c.conn)
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		size := binary.LittleEndian.Uint32(head[4:])
		if size > 256 {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		c.server.mu.Lock()
		goes := c.obey(binary.LittleEndian.Uint32(head[:]), body)
		c.server.mu.Unlock()
		if !goes {
			return
		}
	}
}

// obey is false when the server ends the connection.
func (c *spyClient) obey(command uint32, body []byte) bool {
	setup := &c.server.setup
	switch {
	case command == 0 && (len(body) < 4 || binary.LittleEndian.Uint32(body)>>16 != 0x0200):
		return false
	case command == 0:
		return c.greet()
	case command == 3:
		c.message(2, 0, 0, body)
	case command != 2 || len(body) < 8:
		return command == 1
	}
	if command != 2 {
		return true
	}
	setting, value := binary.LittleEndian.Uint32(body), binary.LittleEndian.Uint32(body[4:])
	switch setting {
	case 0:
		c.mode = value
	case 1:
		if c.enabled = value == 1; c.enabled {
			c.begun, c.made = time.Now(), 0
		}
	case 2:
		if !setup.NoControl {
			c.server.gain = value
			c.sync()
		}
	case 100:
		if value >= 1 && value <= 4 {
			c.format = value
		}
	case 101:
		if low, high := c.limits(); value >= low && value <= high && value != c.center {
			c.center = value
			if !setup.NoControl {
				c.server.center = value
			}
		}
		c.sync()
	case 102:
		if value >= setup.LeastDecimation && value <= setup.Stages {
			c.decimation = value
			c.begun, c.made = time.Now(), 0
			c.sync()
		}
	case 103:
		c.digital = value
	}
	return true
}

func (c *spyClient) greet() bool {
	setup := &c.server.setup
	device := setup.Device
	switch {
	case setup.Full:
		return false
	case setup.Deaf:
		return true
	case setup.Garbage:
		c.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n400 Bad Request")) //nolint:errcheck // the client looks
		return true
	case setup.NoDevice:
		device = 0
	}
	words := []uint32{device, 0xdd52a1b3, setup.MaxRate, setup.MaxRate / 2, setup.Stages, 1, 8, 9000, 260_000_000, 16, setup.LeastDecimation, setup.Forced}
	c.message(0, 0, 0, spyWords(words))
	c.sync()
	return true
}

// limits are those of the centre.
func (c *spyClient) limits() (low, high uint32) {
	if !c.server.setup.NoControl {
		return 9000, 260_000_000
	}
	half := c.server.setup.MaxRate / 2
	return c.server.center - half, c.server.center + half
}

// sync tells the client's state.
func (c *spyClient) sync() {
	if c.server.setup.NoSync || c.server.setup.Deaf {
		return
	}
	control := uint32(1)
	if c.server.setup.NoControl {
		control = 0
	}
	low, high := c.limits()
	c.message(1, 0, 0, spyWords([]uint32{control, c.server.gain, c.server.center, c.center, c.center, low, high, low, high}))
}

func spyWords(words []uint32) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// message sends one.
func (c *spyClient) message(kind, stream, seq uint32, body []byte) {
	head := spyWords([]uint32{2<<24 | 1700, kind, stream, seq, uint32(len(body))})
	if c.server.setup.Big && stream == 1 {
		binary.LittleEndian.PutUint32(head[16:], 2<<20)
	}
	if c.server.setup.Slow {
		for _, b := range append(head, body...) {
			c.conn.Write([]byte{b}) //nolint:errcheck // the client looks
			select {
			case <-c.server.done:
				return
			case <-time.After(time.Second):
			}
		}
		return
	}
	c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // it is open
	c.out.Write(head)                                         //nolint:errcheck // Flush says it too
	c.out.Write(body)                                         //nolint:errcheck // Flush says it too
	if c.out.Flush() != nil {
		c.conn.Close()
	}
}

// stream sends samples at their rate.
func (c *spyClient) stream(stopped <-chan struct{}) {
	const look = 5 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
		c.server.mu.Lock()
		for c.enabled && c.mode&1 != 0 && !c.server.setup.Silent && time.Since(c.begun).Seconds() >= c.made {
			c.samples()
		}
		c.server.mu.Unlock()
	}
}

// samples makes a message of them.
func (c *spyClient) samples() {
	setup := &c.server.setup
	rate := float64(setup.MaxRate) / float64(uint32(1)<<c.decimation)
	n := int(rate / 50)
	if setup.Samples != nil {
		n = setup.Samples(c.seq)
	}
	format := c.format
	if setup.Forced != 0 {
		format = setup.Forced
	}
	body := make([]byte, 0, 8*n)
	for range n {
		body = spySample(body, format, uint32(c.count))
		c.count++
	}
	c.made += float64(n) / rate
	if setup.Lose == nil || !setup.Lose(c.seq) {
		c.message(99+format|c.digital<<16, 1, c.seq, body)
	}
	c.seq++
}

// spySample appends the sample whose value is n.
func spySample(b []byte, format, n uint32) []byte {
	switch format {
	case 1:
		return append(b, byte(n), byte(n>>8))
	case 3:
		return append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), 0, 0)
	case 4:
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(n&0xffff)/65536))
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(n>>16)/65536))
	}
	return binary.LittleEndian.AppendUint32(b, n)
}

// SpyCount reads the number that a sample of a SpyServer is, of bits bits. s24 tells that it came as such.
func SpyCount(sample []byte, s24 bool) (n uint32, bits int) {
	switch len(sample) {
	case 2:
		return uint32(binary.LittleEndian.Uint16(sample)), 16
	case 4:
		return binary.LittleEndian.Uint32(sample), 32
	}
	i := math.Float32frombits(binary.LittleEndian.Uint32(sample))
	q := math.Float32frombits(binary.LittleEndian.Uint32(sample[4:]))
	if s24 {
		return uint32(int32(i*(1<<23)))&0xffffff | uint32(q*(1<<23))<<24, 32
	}
	return uint32(i*65536) | uint32(q*65536)<<16, 32
}
