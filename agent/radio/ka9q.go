package radio

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// openKa9q makes a receiver of one channel of a radiod, the daemon of ka9q-radio: //GROUP[:PORT]/SSRC.
func openKa9q(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	set := readKa9qSettings(p)
	buffer := p.buffer()
	if err := p.finish(); err != nil {
		return nil, err
	}
	host := set.group
	if set.iface == "" {
		host = "" // loopback: a program of this machine
	}
	w := &ka9qWire{set: set, where: p.where, wall: opts.Wall, answered: make(chan struct{}, 1)} // one answer is waited for at a time
	return newLive(p.shown, opts, liveSettings{host: host, buffer: buffer}, w), nil
}

// ka9qSettings are what the URL says.
type ka9qSettings struct {
	group   string // HOST:PORT of status and commands
	ssrc    uint32
	iface   string // empty: loopback
	data    string // HOST:PORT of the samples; empty: as the status says
	control bool

	// Of a channel that is to be made, and where given of one that is there; zero (NaN) where not given.
	centerHz, rateHz, bandwidthHz float64
	preset                        string
	encoding                      uint8
	gainDB                        float64
}

const (
	ka9qStatusPort = 5006
	ka9qDataPort   = 5004
)

func readKa9qSettings(p *params) ka9qSettings {
	var set ka9qSettings
	group, channel := p.path, ""
	if slash := strings.LastIndexByte(p.path, '/'); slash > 1 {
		group, channel = p.path[:slash], p.path[slash+1:]
	}
	ssrc, err := strconv.ParseUint(channel, 10, 32)
	if err != nil || ssrc == 0 || ssrc == ka9qAll {
		p.fault("ssrc", channel, "write //GROUP/SSRC: the number of a channel, from 1 to 4294967294")
	}
	p.path = group
	set.ssrc, set.group = uint32(ssrc), p.hostPort(ka9qStatusPort)
	set.iface, _ = p.take("iface")
	if data, given := p.take("data"); given {
		of := &params{where: p.where, path: "//" + data}
		set.data = of.hostPort(ka9qDataPort)
		if len(of.faults) > 0 {
			p.fault("data", data, "write ADDRESS or ADDRESS:PORT of the group that the samples come from")
		}
	}
	set.control = p.oneOf("control", "off", "off", "on") == "on"
	set.centerHz = p.hertz("center", 1, 1e12)
	set.rateHz = p.hertz("rate", 1e3, 1e8)
	set.bandwidthHz = p.hertz("bandwidth", 10, 1e8)
	set.preset, _ = p.take("preset")
	if len(set.preset) > 31 {
		p.fault("preset", set.preset, "want the name of a section of radiod's presets.conf")
	}
	if name, given := p.take("encoding"); given {
		if set.encoding = ka9qEncodingNumber(name); set.encoding == 0 {
			p.fault("encoding", name, "want one of "+strings.Join(ka9qEncodingNames(), ", "))
		}
	}
	set.gainDB = math.NaN()
	if gain, given := p.take("gain"); given {
		if set.gainDB, err = strconv.ParseFloat(gain, 64); err != nil || !(math.Abs(set.gainDB) <= 200) {
			p.fault("gain", gain, "want a number of dB")
		}
	}
	if !set.control {
		for _, name := range []string{"center", "rate", "bandwidth", "preset", "encoding", "gain"} {
			if v, given := p.values[name]; given {
				p.fault(name, v, "needs control=on: without it the channel is heard as it is")
			}
		}
	}
	return set
}

// ka9qWire listens to one channel: it asks radiod for the channel's state each second and takes its samples from the group
// that the state names.
type ka9qWire struct {
	set   ka9qSettings
	where string
	wall  Wall

	group  netip.AddrPort // of status and commands
	hashed bool           // no resolver knew its name
	status *net.UDPConn
	data   *net.UDPConn
	orders *net.UDPConn // what commands are sent from

	answered chan struct{} // the awaited answer came

	// mu guards the fields below.
	mu       sync.Mutex
	in       *intake   // nil before stream
	state    ka9qState // last heard
	heard    time.Time
	awaited  uint64 // tag of the command whose answer is waited for; 0: none
	order    rtpOrder
	origin   uint64 // count of the timestamp of sample 0, modulo 2⁶⁴
	tuning   Tuning // to be applied at the mark
	skip     time.Time
	resumed  bool // samples follow a pause, in which the channel was restarted
	clock    *sampleClock
	pairAt   uint64 // count of the last timestamp of which the time is known
	pairTime time.Time
	paired   bool // it is of this stream, by radiod's word
	quality  protocol.TimeQuality
	// uncertainty is that of the wall clock, and how far radiod's is from it.
	uncertainty time.Duration
	came        time.Time // the last samples
	sent        uint64    // packets by radiod's count at that time
	counted     bool
	scratch     []byte
}

const (
	// ka9qAsk is how long radiod has to answer, ka9qAgain when it is asked again: packets get lost.
	ka9qAsk   = 2 * time.Second
	ka9qAgain = 400 * time.Millisecond
	// ka9qPoll is how often the state is asked for, at most.
	ka9qPoll = time.Second
	// ka9qGone is the silence after which radiod has gone, and ka9qDeaf for how long it may send samples that do not come.
	ka9qGone = 5 * time.Second
	ka9qDeaf = 4 * time.Second
	// ka9qSettle is how long the filter and the oscillator of a channel take.
	ka9qSettle = 100 * time.Millisecond
	// ka9qStay is how long a channel that was made stays without a word from here.
	ka9qStay = 20 * time.Second
	// ka9qRestart is how long packets of a channel's former rate may still come.
	ka9qRestart = 100 * time.Millisecond
	// ka9qFar is how far samples may be beyond what radiod says of itself.
	ka9qFar = 10 * time.Second
)

// connect finds the channel, or makes it, and joins the group that it sends to.
func (w *ka9qWire) connect(ctx context.Context) (info Info, err error) {
	defer func() {
		if err != nil {
			w.close() //nolint:errcheck // the reason is known
		}
	}()
	if err = w.join(ctx); err != nil {
		return Info{}, err
	}
	others, err := w.find(ctx)
	if err != nil {
		return Info{}, err
	}
	if err = w.arrange(ctx, others); err != nil {
		return Info{}, err
	}
	if err = w.state.usable(w.where); err != nil {
		return Info{}, err
	}
	if err = w.joinData(ctx); err != nil {
		return Info{}, err
	}
	return w.info(), nil
}

func (w *ka9qWire) info() Info {
	st := &w.state
	_, quality, _ := w.wall()
	info := Info{
		Hardware: "radiod " + strings.TrimSpace(st.description), Format: ka9qEncodings[st.encoding].to, Tuning: st.tuning(),
		Tunable: w.set.control, TimeQuality: quality,
	}
	if info.Tunable {
		info.Range = st.tunable()
	}
	if st.agc {
		info.Notes = append(info.Notes, "radiod's AGC is on in this channel: levels mean nothing over time; set agc = no and a gain in its section")
	}
	if w.hashed {
		info.Notes = append(info.Notes, fmt.Sprintf("no resolver of this system knows the group's name: %s was computed from it, as radiod does", w.group))
	}
	return info
}

// join resolves the group and listens to it.
func (w *ka9qWire) join(ctx context.Context) error {
	ifi, local, err := w.set.network()
	if err != nil {
		return &Fault{w.where, "iface", w.set.iface, err.Error()}
	}
	if w.group, w.hashed, err = resolveGroup(ctx, w.set.group); err != nil {
		return &Fault{w.where, "group", w.set.group, err.Error()}
	}
	if w.status, err = listenGroup(ifi, w.group); err != nil {
		return fmt.Errorf("listen to %s on %s: %w", w.group, ifi.Name, err)
	}
	if w.orders, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(w.group)); err != nil {
		return fmt.Errorf("send to %s on %s: %w", w.group, ifi.Name, err)
	}
	return nil
}

func (w *ka9qWire) joinData(ctx context.Context) error {
	group := w.state.data
	if w.set.data != "" {
		var err error
		if group, _, err = resolveGroup(ctx, w.set.data); err != nil {
			return &Fault{w.where, "data", w.set.data, err.Error()}
		}
	}
	if !group.Addr().IsMulticast() {
		return &Fault{w.where, "data", group.String(), "radiod names no multicast group for the samples: give the parameter data"}
	}
	ifi, _, err := w.set.network()
	if err != nil {
		return err
	}
	if w.data, err = listenGroup(ifi, group); err != nil {
		return fmt.Errorf("listen to %s on %s: %w", group, ifi.Name, err)
	}
	return nil
}

// network is the interface that groups are joined on, and its address.
func (s *ka9qSettings) network() (*net.Interface, netip.Addr, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, netip.Addr{}, err
	}
	var names []string
	for _, ifi := range all {
		names = append(names, ifi.Name)
		if s.iface != ifi.Name && (s.iface != "" || ifi.Flags&net.FlagLoopback == 0) {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return nil, netip.Addr{}, err
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
				return &ifi, prefix.Addr(), nil
			}
		}
		return nil, netip.Addr{}, errors.New("has no IPv4 address")
	}
	return nil, netip.Addr{}, fmt.Errorf("want one of %s", strings.Join(names, ", "))
}

// resolveGroup finds the address of a group. radiod hashes names that it finds nowhere, and so do we.
func resolveGroup(ctx context.Context, hostPort string) (group netip.AddrPort, hashed bool, err error) {
	host, portText, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.AddrPort{}, false, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, false, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if !strings.Contains(host, ".") {
			host += ".local"
		}
		looking, cancel := context.WithTimeout(ctx, ka9qAsk)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(looking, "ip4", host)
		switch {
		case ctx.Err() != nil:
			return netip.AddrPort{}, false, ctx.Err()
		case err != nil || len(found) == 0:
			addr, hashed = ka9qAddress(host), true
		default:
			addr = found[0].Unmap()
		}
	}
	if !addr.Is4() || !addr.IsMulticast() {
		return netip.AddrPort{}, false, fmt.Errorf("%s is no IPv4 multicast group: give that of the line status = in radiod's config", addr)
	}
	return netip.AddrPortFrom(addr, uint16(port)), hashed, nil
}

// listenGroup joins a group on one interface.
func listenGroup(ifi *net.Interface, group netip.AddrPort) (*net.UDPConn, error) {
	conn, err := net.ListenMulticastUDP("udp4", ifi, net.UDPAddrFromAddrPort(group))
	if err != nil {
		return nil, err
	}
	conn.SetReadBuffer(4 << 20) //nolint:errcheck // the system gives what it allows
	return conn, onlyJoined(conn)
}

// find asks for the state of all channels until ours answers, and returns the numbers of the others.
func (w *ka9qWire) find(ctx context.Context) (others []uint32, err error) {
	var st ka9qState
	buf := make([]byte, 1<<16)
	end := time.Now().Add(ka9qAsk)
	for time.Now().Before(end) {
		if err := w.ask(ka9qAll); err != nil {
			return nil, err
		}
		again := time.Now().Add(ka9qAgain)
		for time.Now().Before(again) {
			err := w.readStatus(ctx, &st, buf, again)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				continue
			case st.ssrc == w.set.ssrc:
				w.state = st
				return nil, nil
			case !slices.Contains(others, st.ssrc) && len(others) < 1000:
				others = append(others, st.ssrc)
			}
		}
	}
	slices.Sort(others)
	return others, nil
}

// readStatus reads one status packet; what is none is an error.
func (w *ka9qWire) readStatus(ctx context.Context, st *ka9qState, buf []byte, until time.Time) error {
	if err := w.status.SetReadDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { w.status.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // closed then
	defer stop()
	n, _, err := w.status.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	return st.parse(buf[:n])
}

// ask polls a channel, or all.
func (w *ka9qWire) ask(ssrc uint32) error {
	return w.send(newKa9qCommand(ssrc, uint64(rand.Uint32())|1<<32).end())
}

func (w *ka9qWire) send(command []byte) error {
	if _, err := w.orders.Write(command); err != nil {
		return fmt.Errorf("send to %s: %w", w.group, err)
	}
	return nil
}

// arrange makes the channel, or changes what the URL says about one that is there.
func (w *ka9qWire) arrange(ctx context.Context, others []uint32) error {
	exists := w.state.ssrc != 0
	if !exists && !w.set.control {
		return w.missing(others)
	}
	tag := uint64(rand.Uint32()) | 1<<32
	command, changes := w.set.change(tag, &w.state)
	if !exists {
		if w.set.centerHz == 0 {
			return &Fault{w.where, "center", "", fmt.Sprintf("needed: radiod has no channel %d yet, and it is to be made", w.set.ssrc)}
		}
		command, changes = w.set.create(tag), true
	}
	if !changes {
		return nil
	}
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(ka9qAsk); time.Now().Before(end); {
		if err := w.send(command.end()); err != nil {
			return err
		}
		for again := time.Now().Add(ka9qAgain); time.Now().Before(again); {
			var st ka9qState
			err := w.readStatus(ctx, &st, buf, again)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && st.ssrc == w.set.ssrc && st.tag == tag {
				w.state = st
				return nil
			}
		}
	}
	if len(others) == 0 && !exists {
		return w.missing(others)
	}
	return &Fault{
		w.where, "ssrc", strconv.FormatUint(uint64(w.set.ssrc), 10),
		"radiod does not make the channel: it needs a line data = in the section [global] of its config",
	}
}

// missing says that there is no such channel, and what there is.
func (w *ka9qWire) missing(others []uint32) error {
	if len(others) == 0 {
		hint := "look whether it runs, and on which group: the line status = in its config"
		if w.hashed {
			hint = "no resolver of this system knows the name, so its address was computed as radiod does; write the address that avahi-resolve -n tells"
		}
		on := w.set.iface
		if on == "" {
			on = "loopback, which the parameter iface changes"
		}
		return fmt.Errorf("radiod does not answer at %s on %s: %s", w.group, on, hint)
	}
	shown := make([]string, 0, 20)
	for _, ssrc := range others[:min(len(others), cap(shown))] {
		shown = append(shown, strconv.FormatUint(uint64(ssrc), 10))
	}
	return &Fault{
		w.where, "ssrc", strconv.FormatUint(uint64(w.set.ssrc), 10),
		fmt.Sprintf("radiod has no such channel: it has %d, such as %s; control=on with center= makes one", len(others), strings.Join(shown, ", ")),
	}
}

// describe says what radiod tells everybody.
func (w *ka9qWire) describe(ctx context.Context) ([]Fact, error) {
	look := &ka9qWire{set: w.set, where: w.where, wall: w.wall}
	defer look.close() //nolint:errcheck // nothing was written
	if err := look.join(ctx); err != nil {
		return nil, err
	}
	others, err := look.find(ctx)
	if err != nil {
		return nil, err
	}
	facts := []Fact{{"group", look.group.String()}, {"other channels", strconv.Itoa(len(others))}}
	if st := &look.state; st.ssrc != 0 {
		facts = append(facts, Fact{"front end", st.description}, Fact{"preset", st.preset},
			Fact{"samples", fmt.Sprintf("%s, %d channels, at %s", ka9qEncodings[st.encoding].name, st.channels, st.data)})
	}
	return facts, nil
}

// close ends the connection. A channel that was made here goes by itself.
func (w *ka9qWire) close() error {
	var errs []error
	for _, conn := range []*net.UDPConn{w.status, w.data, w.orders} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}
