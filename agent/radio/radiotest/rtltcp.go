package radiotest

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"
)

// RTLTCP is a server that behaves as rtl_tcp does with a dongle of an R820T: one client at a time, samples in bursts at true
// speed, commands without replies, and a queue of old bursts that silently loses the oldest. The faults are its own, and
// those of what stands between it and a client.
type RTLTCP struct {
	set      RTLSettings
	listener net.Listener // nil when it only serves connections of its own making
	runs     sync.WaitGroup

	// mu guards the fields below.
	mu       sync.Mutex
	tuning   RTLTuning
	test     bool // the samples are a counter
	changes  []rtlChange
	commands []RTLCommand
	loss     time.Duration // to come
	stalled  time.Time     // nothing is sent until then
	mute     bool          // the dongle delivers nothing
	sent     uint64        // bytes
	dropped  uint64        // bytes, by the queue
	conn     net.Conn      // of the client, nil without one
	clients  int           // served so far
}

// RTLHeader is what a client gets first.
type RTLHeader int

// What a client gets first: what it should, the same in the byte order of a small machine (owrx_connector's imitation),
// something else, nothing, or the right thing too slowly.
const (
	HeaderBigEndian RTLHeader = iota
	HeaderLittleEndian
	HeaderGarbage
	HeaderNone
	HeaderDrip // a byte a second, and the samples too
)

// RTLSettings say what the server is. Zero values are those of rtl_tcp.
type RTLSettings struct {
	Header  RTLHeader
	Tuner   uint32 // 5: R820T
	Gains   uint32 // 29
	Deaf    bool   // commands are ignored, as by owrx_connector's imitation
	PPM     float64
	Burst   int                               // bytes; 262,144
	Queue   int                               // bursts kept for a slow client; 500
	Fast    bool                              // as fast as the client reads, nothing is dropped
	Split   []int                             // sizes of the pieces in which bytes are sent, over and over; none: whole bursts
	Jitter  func() time.Duration              `json:"-"` // delay of each burst on its way
	Link    float64                           // what the network carries, in bytes a second; 0: anything
	Counter bool                              // test mode from the start: the bytes are a counter
	Source  func(iq []byte, tuning RTLTuning) `json:"-"` // makes samples; nil: noise
	Initial RTLTuning                         // 100 MHz, 2.048 Msps
}

// RTLTuning is the state of the dongle that a sample was taken with.
type RTLTuning struct {
	CenterHz, RateHz uint32
	GainTenths       int32 // with a fixed gain
	Automatic        bool  // no fixed gain
}

// RTLCommand is what a client asked.
type RTLCommand struct {
	Code     byte
	Argument uint32
}

type rtlChange struct {
	at     time.Time
	tuning RTLTuning
}

// NewRTLTCP makes a server that listens nowhere: Connect gives it a client.
func NewRTLTCP(set RTLSettings) *RTLTCP {
	if set.Tuner == 0 {
		set.Tuner, set.Gains = 5, 29
	}
	if set.Burst == 0 {
		set.Burst = 262144
	}
	if set.Queue == 0 {
		set.Queue = 500
	}
	if set.Initial.CenterHz == 0 {
		set.Initial = RTLTuning{CenterHz: 100e6, RateHz: 2048000, Automatic: true}
	}
	if set.Source == nil {
		set.Source = noise()
	}
	return &RTLTCP{set: set, tuning: set.Initial, test: set.Counter}
}

// ListenRTLTCP starts a server at an address, such as 127.0.0.1:0, until Close.
func ListenRTLTCP(ctx context.Context, address string, set RTLSettings) (*RTLTCP, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := NewRTLTCP(set)
	s.listener = listener
	s.runs.Go(func() {
		for {
			conn, err := listener.Accept() // the next client waits meanwhile, without a byte
			if err != nil {
				return
			}
			s.serve(ctx, conn)
		}
	})
	return s, nil
}

// StartRTLTCP starts a server for the rest of a test.
func StartRTLTCP(t testing.TB, set RTLSettings) *RTLTCP {
	t.Helper()
	s, err := ListenRTLTCP(t.Context(), "127.0.0.1:0", set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Address is where it listens, as host:port.
func (s *RTLTCP) Address() string { return s.listener.Addr().String() }

// Close ends the server and its client.
func (s *RTLTCP) Close() {
	if s.listener != nil {
		s.listener.Close()
	}
	s.Drop()
	s.runs.Wait()
}

// Drop closes the connection of the client.
func (s *RTLTCP) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

// Lose has samples of so much time go missing between dongle and computer, unseen by the server.
func (s *RTLTCP) Lose(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss += d
}

// Stall has the network carry nothing for a while. What comes meanwhile waits in the queue.
func (s *RTLTCP) Stall(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = time.Now().Add(d)
}

// Mute has the dongle deliver nothing from now on.
func (s *RTLTCP) Mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

// Commands are what clients asked so far.
func (s *RTLTCP) Commands() []RTLCommand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]RTLCommand(nil), s.commands...)
}

// Tuning is the state of the dongle.
func (s *RTLTCP) Tuning() RTLTuning {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tuning
}

// Clients is how many were served so far, and Dropped how many bytes the queue lost.
func (s *RTLTCP) Clients() (clients int, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients, s.dropped
}

// Connect is a client's connection without a network between.
func (s *RTLTCP) Connect(ctx context.Context) net.Conn {
	theirs, ours := net.Pipe()
	s.runs.Go(func() { s.serve(ctx, ours) })
	return theirs
}

// serve serves one client until it leaves, or is dropped.
func (s *RTLTCP) serve(ctx context.Context, conn net.Conn) {
	s.mu.Lock()
	s.conn = conn
	s.clients++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
		conn.Close()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if !s.greet(ctx, conn) {
		return
	}
	queue := &rtlQueue{limit: s.set.Queue, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	var parts sync.WaitGroup
	parts.Go(func() { defer cancel(); s.produce(ctx, queue) })
	parts.Go(func() { defer cancel(); s.send(ctx, conn, queue) })
	s.obey(conn)
	cancel()
	parts.Wait()
}

// greet sends the header.
func (s *RTLTCP) greet(ctx context.Context, conn net.Conn) bool {
	header := []byte("RTL0")
	var order binary.AppendByteOrder = binary.BigEndian
	tuner, gains := s.set.Tuner, s.set.Gains
	switch s.set.Header {
	case HeaderLittleEndian:
		order, gains = binary.LittleEndian, 0
	case HeaderGarbage:
		header = []byte("HTTP")
	case HeaderNone:
		_, _ = io.Copy(io.Discard, conn)
		return false
	case HeaderBigEndian, HeaderDrip:
	}
	header = order.AppendUint32(order.AppendUint32(header, tuner), gains)
	if s.set.Header == HeaderDrip {
		return drip(ctx, conn, header) == nil
	}
	_, err := conn.Write(header)
	return err == nil
}

// drip sends a byte a second.
func drip(ctx context.Context, conn net.Conn, bytes []byte) error {
	for i := range bytes {
		if _, err := conn.Write(bytes[i : i+1]); err != nil {
			return err
		}
		if !sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// obey reads commands until the client leaves.
func (s *RTLTCP) obey(conn net.Conn) {
	var command [5]byte
	for {
		if _, err := io.ReadFull(conn, command[:]); err != nil {
			return
		}
		s.do(RTLCommand{command[0], binary.BigEndian.Uint32(command[1:])})
	}
}

// do changes the dongle. A rate that it cannot have is passed over in silence.
func (s *RTLTCP) do(c RTLCommand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = append(s.commands, c)
	if s.set.Deaf {
		return
	}
	t := s.tuning
	switch c.Code {
	case 0x01:
		t.CenterHz = c.Argument
	case 0x02:
		if c.Argument > 225000 && c.Argument <= 300000 || c.Argument > 900000 && c.Argument <= 3200000 {
			t.RateHz = c.Argument
		}
	case 0x03:
		t.Automatic = c.Argument == 0
	case 0x04:
		if !t.Automatic {
			t.GainTenths = int32(c.Argument)
		}
	case 0x07:
		s.test = c.Argument != 0
	default:
	}
	if t != s.tuning {
		s.tuning = t
		s.changes = append(s.changes, rtlChange{time.Now(), t})
	}
}

// RTLTrueRate is the sample rate that the dongle's divider makes of a nominal one.
func RTLTrueRate(rateHz uint32) float64 {
	const crystal = 28.8e6
	ratio := uint32(math.Floor(crystal*(1<<22)/float64(rateHz))) & 0x0ffffffc
	return crystal * (1 << 22) / float64(ratio|ratio&0x08000000<<1)
}

// produce fills the queue as the dongle does: a burst when its last sample was taken.
func (s *RTLTCP) produce(ctx context.Context, queue *rtlQueue) {
	began, taken := time.Now(), 0.0 // seconds of stream since then
	counter := byte(0)
	s.mu.Lock()
	tuning := s.tuning // of the next sample
	s.changes = nil
	s.mu.Unlock()
	for {
		rateHz := RTLTrueRate(tuning.RateHz) * (1 + s.set.PPM*1e-6)
		s.mu.Lock()
		loss, mute := s.loss, s.mute
		s.loss = 0
		s.mu.Unlock()
		if mute {
			<-ctx.Done()
			return
		}
		counter += byte(2 * int64(loss.Seconds()*rateHz))
		first := began.Add(time.Duration((taken + loss.Seconds()) * 1e9))
		taken += loss.Seconds() + float64(s.set.Burst/2)/rateHz
		if s.set.Fast {
			if !queue.waitForRoom(ctx) {
				return
			}
		} else if !sleep(ctx, time.Until(began.Add(time.Duration(taken*1e9)))) {
			return
		}
		iq := queue.blank(s.set.Burst)
		tuning = s.fill(iq, first, rateHz, tuning, &counter)
		if dropped := queue.add(iq); dropped > 0 {
			s.mu.Lock()
			s.dropped += uint64(dropped)
			s.mu.Unlock()
		}
	}
}

// counting is a counter of one byte, over and over.
var counting = func() []byte {
	b := make([]byte, 1<<16)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

// fill makes the samples from an instant on, each with the tuning of its time, and returns that of the next one.
func (s *RTLTCP) fill(iq []byte, first time.Time, rateHz float64, tuning RTLTuning, counter *byte) RTLTuning {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.test {
		for rest := iq; len(rest) > 0; {
			n := copy(rest, counting[*counter:])
			rest, *counter = rest[n:], *counter+byte(n)
		}
		iq = nil
	}
	for len(s.changes) > 0 {
		at := 2 * int(s.changes[0].at.Sub(first).Seconds()*rateHz)
		if at >= len(iq) && iq != nil && !s.set.Fast {
			break
		}
		at = max(0, min(at, len(iq)))
		s.set.Source(iq[:at], tuning)
		first = first.Add(time.Duration(float64(at/2) / rateHz * 1e9))
		iq, tuning, s.changes = iq[at:], s.changes[0].tuning, s.changes[1:]
	}
	s.set.Source(iq, tuning)
	return tuning
}

// send empties the queue into the connection.
func (s *RTLTCP) send(ctx context.Context, conn net.Conn, queue *rtlQueue) {
	piece := 0
	for {
		iq, ok := queue.next(ctx)
		if !ok {
			return
		}
		if s.set.Jitter != nil && !sleep(ctx, s.set.Jitter()) {
			return
		}
		s.mu.Lock()
		stall := time.Until(s.stalled)
		s.mu.Unlock()
		if !sleep(ctx, stall) {
			return
		}
		if s.set.Header == HeaderDrip {
			if drip(ctx, conn, iq) != nil {
				return
			}
		}
		for rest := iq; len(rest) > 0; {
			n := len(rest)
			if len(s.set.Split) > 0 {
				n = min(n, s.set.Split[piece%len(s.set.Split)])
				piece++
			}
			if s.set.Link > 0 && !sleep(ctx, time.Duration(float64(n)/s.set.Link*1e9)) {
				return
			}
			if _, err := conn.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		s.mu.Lock()
		s.sent += uint64(len(iq))
		s.mu.Unlock()
		queue.reuse(iq)
	}
}

// Sent is how many bytes of samples went out.
func (s *RTLTCP) Sent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// rtlQueue holds bursts between dongle and network. When it is full the oldest goes.
type rtlQueue struct {
	limit       int
	ready, room chan struct{} // one wake-up each is enough

	mu     sync.Mutex
	bursts [][]byte
	spare  [][]byte
}

func (q *rtlQueue) blank(n int) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last := len(q.spare) - 1; last >= 0 {
		iq := q.spare[last]
		q.spare = q.spare[:last]
		return iq
	}
	return make([]byte, n)
}

func (q *rtlQueue) reuse(iq []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = append(q.spare, iq)
}

func (q *rtlQueue) add(iq []byte) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bursts = append(q.bursts, iq)
	if len(q.bursts) > q.limit {
		dropped = len(q.bursts[0])
		q.spare = append(q.spare, q.bursts[0])
		q.bursts = append(q.bursts[:0], q.bursts[1:]...)
	}
	wake(q.ready)
	return dropped
}

func (q *rtlQueue) next(ctx context.Context) ([]byte, bool) {
	for {
		q.mu.Lock()
		if len(q.bursts) > 0 {
			iq := q.bursts[0]
			q.bursts = append(q.bursts[:0], q.bursts[1:]...)
			q.mu.Unlock()
			wake(q.room)
			return iq, true
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// waitForRoom waits until few bursts are left.
func (q *rtlQueue) waitForRoom(ctx context.Context) bool {
	for {
		q.mu.Lock()
		few := len(q.bursts) < 4
		q.mu.Unlock()
		if few {
			return ctx.Err() == nil
		}
		select {
		case <-q.room:
		case <-ctx.Done():
			return false
		}
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// noise is the receiver's own, some 20 dB below full scale, from a table that repeats.
func noise() func([]byte, RTLTuning) {
	table, state := make([]byte, 1<<16-2), uint32(1)
	for i := range table {
		sum := 0
		for range 4 {
			state = state*1664525 + 1013904223
			sum += int(state >> 27)
		}
		table[i] = byte(127 + (sum-62)/2)
	}
	at := 0
	return func(iq []byte, _ RTLTuning) {
		for len(iq) > 0 {
			n := copy(iq, table[at:])
			iq, at = iq[n:], (at+n)%len(table)
		}
	}
}

// Recording plays samples once and is silent then, from the first sample that a client gets.
func Recording(iq []byte) func([]byte, RTLTuning) {
	return func(out []byte, _ RTLTuning) {
		n := copy(out, iq)
		iq = iq[n:]
		for i := range out[n:] {
			out[n+i] = byte(127 + i&1) // silence lies between two values
		}
	}
}
