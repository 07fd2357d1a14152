package service

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells systemd how the program is, over the socket that NOTIFY_SOCKET names. Without one it tells nobody. All
// methods may be called from any goroutine, on a nil Notifier too.
type Notifier struct {
	conn *net.UnixConn
	log  *slog.Logger
	// watchdog is how long systemd waits for a sign of life before it ends the program; 0: for ever.
	watchdog time.Duration
}

// NewNotifier takes the socket out of the environment, so that no child of the program speaks for it.
func NewNotifier(log *slog.Logger) *Notifier {
	n := &Notifier{log: log}
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return n
	}
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name) //nolint:errcheck // fails for names that are no names
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // a leading @ is an abstract socket
	if err != nil {
		log.Warn("cannot tell the service manager how this program is", "error", err)
		return n
	}
	n.conn = conn
	if us, err := strconv.ParseInt(usec, 10, 64); err == nil && us > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// Ready says that the program does its work.
func (n *Notifier) Ready(status string) { n.tell("READY=1", "STATUS="+line(status)) }

// Status says how it goes, in a line for people.
func (n *Notifier) Status(status string) { n.tell("STATUS=" + line(status)) }

// Stopping says that the program ends by itself or because it was asked to.
func (n *Notifier) Stopping() { n.tell("STOPPING=1", "STATUS=stopping") }

func line(text string) string { return strings.Join(strings.Fields(text), " ") }

func (n *Notifier) tell(states ...string) {
	if n == nil || n.conn == nil {
		return
	}
	if _, err := n.conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		n.log.Debug("cannot tell the service manager how this program is", "error", err)
	}
}

// signsOfLife is how often the program is looked at in the time after which systemd would end it.
const signsOfLife = 4

// Watch looks at the program as long as the context lasts, and gives systemd a sign of life each time that nothing is stuck.
// stuck names what is, or returns ""; where it hangs itself, there is no sign of life either. Without a watchdog Watch
// returns at once.
func (n *Notifier) Watch(ctx context.Context, stuck func() string) {
	if n == nil || n.conn == nil || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / signsOfLife)
	defer tick.Stop()
	for said := ""; ; {
		what := stuck()
		switch {
		case what == "":
			n.tell("WATCHDOG=1")
		case what != said:
			n.log.ErrorContext(ctx, "stuck: the service manager will start this program anew", "what", what)
		}
		said = what
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close gives the socket back.
func (n *Notifier) Close() {
	if n != nil && n.conn != nil {
		n.conn.Close() //nolint:errcheck // nothing waits on a datagram socket
	}
}
