package radio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// rtlProgram is a stick of this computer: rtl_tcp as a program of ours, and the connection to it.
type rtlProgram struct {
	*rtlWire
	program string
	device  string // serial number or index
	child   *child
	said    lastWords
}

const (
	// rtlStart is how long the program may take until it listens.
	rtlStart = 10 * time.Second
	// rtlQueue is how many bursts it may keep for us: two seconds at 2.048 Msps.
	rtlQueue = "32"
)

// rtlDevice is what a stick may be called. Serial numbers are set by their owners.
var rtlDevice = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)

func openRTLSDR(source, rest string, opts Options) (Receiver, error) {
	p := newParams(source, rest)
	device := strings.TrimSuffix(strings.TrimPrefix(p.path, "//"), "/")
	if !rtlDevice.MatchString(device) {
		p.fault("device", device, "write rtlsdr://SERIAL or rtlsdr://INDEX; rtl_test lists both, and 0 is the first stick")
	}
	program, given := p.take("program")
	if !given || program == "" {
		program = "rtl_tcp"
	}
	set := rtlParameters(p, opts, false)
	live := liveSettings{buffer: p.buffer(), stall: rtlPatience}
	if err := p.finish(); err != nil {
		return nil, err
	}
	w := &rtlProgram{rtlWire: newRTLWire(p.shown, "", set, opts.Wall), program: program, device: device}
	w.dial, w.ended = w.reach, w.why
	return newLive(p.shown, opts, live, w), nil
}

// connect starts the program and connects to it.
func (w *rtlProgram) connect(ctx context.Context) (Info, error) {
	port, err := freePort(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("%s: find a free port: %w", w.shown, err)
	}
	w.address = net.JoinHostPort("127.0.0.1", port)
	w.child, err = startChild([]string{w.program, "-a", "127.0.0.1", "-p", port, "-d", w.device, "-n", rtlQueue}, false, w.said.hear)
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return Info{}, w.fault("program", w.program, "not on this computer: apt install rtl-sdr, or say where it is with program=PATH")
	case errors.Is(err, fs.ErrPermission):
		return Info{}, w.fault("program", w.program, "this account may not run it")
	case err != nil:
		return Info{}, fmt.Errorf("%s: start %s: %w", w.shown, w.program, err)
	}
	starting, cancel := context.WithTimeout(ctx, rtlStart)
	defer cancel()
	info, err := w.rtlWire.connect(starting)
	if err != nil {
		w.child.end()
		_ = w.child.wait() // we ended it, and err says why
		if faults := Faults(err); len(faults) == 1 {
			return Info{}, faults[0]
		}
		return Info{}, err
	}
	info.Hardware = fmt.Sprintf("RTL-SDR stick %s with %s", w.device, w.tuner.name)
	return info, nil
}

// freePort is a port of this computer that nobody listens on.
func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// reach connects as soon as the program listens.
func (w *rtlProgram) reach(ctx context.Context, network, address string) (net.Conn, error) {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-w.child.gone:
			return nil, w.why(errors.New("it ended before it listened"))
		case <-ctx.Done():
			return nil, w.why(fmt.Errorf("it does not listen: %w", context.Cause(ctx)))
		case <-retry.C:
		}
	}
}

// why says more of an error: what became of the program and what it said.
func (w *rtlProgram) why(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	how := "is still running"
	select {
	case <-w.child.gone:
		how = "ended with " + w.child.how()
	case <-time.After(endGrace / 4): // a program that is ending closes its connections first
	}
	text := w.said.text()
	if mend := rtlMend(text); mend != "" {
		return w.fault("device", w.device, mend)
	}
	return fmt.Errorf("%w: %s %s%s", err, w.program, how, lastLine(text))
}

func (w *rtlProgram) fault(field, value, mend string) error {
	return &Fault{fmt.Sprintf("source %q", w.shown), field, value, mend}
}

// close ends the connection, and the program.
func (w *rtlProgram) close() error {
	err := w.rtlWire.close()
	w.child.end()
	_ = w.child.wait() // that it was told to end shows in how it ended
	return err
}

// rtlMends are what rtl_tcp and librtlsdr say when a stick cannot be had, and what that means.
var rtlMends = []struct{ said, mend string }{
	{"usb_claim_interface error -6", rtlHeld},
	{"Kernel driver is active, or device is claimed", rtlHeld},
	{"usb_open error -3", "this account may not use it: install the udev rules (apt install rtl-sdr), add the account to the group plugdev, and plug the stick in again"},
	{"usb_open error -4", "it was unplugged while it was being opened"},
	{"No supported devices found", "no RTL-SDR stick is plugged in: lsusb shows them as 0bda:2832 or 0bda:2838"},
	{"No matching devices found", "no stick has this serial number or index: rtl_test lists those that are there"},
}

const rtlHeld = "it is in use. If the kernel's DVB driver holds it: sudo rmmod dvb_usb_rtl28xxu, and for good " +
	"echo blacklist dvb_usb_rtl28xxu | sudo tee /etc/modprobe.d/blacklist-rtl-sdr.conf; else stop the other program that uses it"

// rtlMend is what to do about what the program said; empty: nothing known.
func rtlMend(said string) string {
	for _, m := range rtlMends {
		if strings.Contains(said, m.said) {
			return m.mend
		}
	}
	return ""
}

// lastLine is what the program said last, as the end of a sentence.
func lastLine(said string) string {
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	const most = 200
	line := strings.ToValidUTF8(lines[len(lines)-1], "?")
	return "; it said last: " + strconv.Quote(line[:min(len(line), most)])
}

// lastWords keeps the end of what a program says.
type lastWords struct {
	mu   sync.Mutex
	kept []byte
}

const mostLastWords = 8 << 10

func (l *lastWords) hear(said []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, said...)
	if over := len(l.kept) - mostLastWords; over > 0 {
		l.kept = bytes.Clone(l.kept[over:])
	}
}

func (l *lastWords) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept)
}
