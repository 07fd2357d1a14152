package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"

	mochi "github.com/mochi-mqtt/server/v2"
)

// Limits of the embedded broker. They bound what one client can make the process hold.
const (
	maxPacketBytes = 512 << 10 // the largest legal message is 128 KiB; the rest is room for topic and header
	maxClients     = 4096
	// A collector may hold this many messages that it has not acknowledged, and some may wait to be encoded for it. Above,
	// mochi drops what is meant for that client; the agents send it again. The queue is allocated for each client.
	maxUnacked         = 16384
	maxUnencoded       = 4096
	leftoverExpiryS    = 60 // of what a panic left behind; there are no sessions without a client otherwise
	sysTopicsIntervalS = 60 // mochi stops the world for its statistics each time
)

// Broker is an MQTT broker inside the process.
type Broker struct {
	server   *mochi.Server
	listener *listener
	once     sync.Once
}

// OpenBroker takes the address, so that a busy port is known before anything else starts. Port 0 takes a free one; Addr
// tells which. The broker serves once Run is called; connections made before wait.
func OpenBroker(ctx context.Context, listen string, log *slog.Logger) (*Broker, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("mqtt.embedded.listen: %s: the port is in use; stop what holds it, or choose another one (port 0 takes any free port): %w", listen, err)
	case err != nil:
		return nil, fmt.Errorf("mqtt.embedded.listen: %s: cannot listen there; write host:port, such as 127.0.0.1:18830: %w", listen, err)
	}
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClients = maxClients
	caps.MaximumPacketSize = maxPacketBytes
	caps.MaximumInflight = maxUnacked
	caps.MaximumClientWritesPending = maxUnencoded
	caps.MaximumSessionExpiryInterval = leftoverExpiryS
	// mochi also deletes retained messages of this age, which would make a station's description vanish after a day.
	caps.MaximumMessageExpiryInterval = 0
	server := mochi.New(&mochi.Options{
		Capabilities:           caps,
		Logger:                 slog.New(onlyErrors{log.Handler()}),
		SysTopicResendInterval: sysTopicsIntervalS,
	})
	b := &Broker{server: server, listener: newListener(l, log)}
	if err := errors.Join(server.AddHook(newDoor(log), nil), server.AddListener(b.listener)); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the embedded broker: %w", err), l.Close())
	}
	return b, nil
}

// Addr is the address that the broker listens on, with the actual port.
func (b *Broker) Addr() string { return b.listener.Address() }

// Secure has the broker speak TLS from Run on. A client's certificate is asked for; the configuration says which are good. Whoever
// has none is refused, as is whoever has one and claims to be another.
func (b *Broker) Secure(conf *tls.Config) { b.listener.tls = conf }

// URL is where clients on this machine reach the broker.
func (b *Broker) URL() string {
	scheme := "mqtt://"
	if b.listener.tls != nil {
		scheme = "mqtts://"
	}
	a, ok := b.listener.Addr().(*net.TCPAddr)
	if ok && a.IP.IsUnspecified() {
		return scheme + net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
	}
	return scheme + b.Addr()
}

// Run serves until ctx ends, and returns when the last connection is closed.
func (b *Broker) Run(ctx context.Context) error {
	if a, ok := b.listener.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && b.listener.tls == nil {
		b.listener.log.WarnContext(ctx, "embedded broker has no accounts and can be reached from other machines", "listen", a.String())
	}
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("start the embedded broker: %w", err)
	}
	close(b.listener.open) // not before: mochi retains its own messages while it starts, without a lock
	<-ctx.Done()
	return b.Close()
}

// Close ends all connections and frees the port. A broker that never ran is closed by it; Run calls it itself.
func (b *Broker) Close() error {
	var err error
	b.once.Do(func() {
		err = b.server.Close()
	})
	if err != nil {
		return fmt.Errorf("close the embedded broker: %w", err)
	}
	return nil
}

// Cut ends the connections of a station, if it has any, and waits until everything is over, wills included.
func (b *Broker) Cut(ctx context.Context, station string) error {
	for _, over := range b.listener.cut(station) {
		select {
		case <-over:
		case <-ctx.Done():
			return fmt.Errorf("end the connections of %s: %w", station, ctx.Err())
		}
	}
	return nil
}

// agentPrefix begins the client ids of agents.
const agentPrefix = "heimdall-agent-"

// Disconnect ends the connection of a station's agent, if it has one. Its agent will come back, after its pause.
func (b *Broker) Disconnect(station string) {
	if client, ok := b.server.Clients.Get(agentPrefix + station); ok {
		client.Stop(errFlood)
	}
}

// errFlood is why a station was disconnected.
var errFlood = errors.New("it sends far more than its limit")

// onlyErrors passes what mochi calls an error. Its warnings are about single packets of single clients, and repeat.
type onlyErrors struct{ slog.Handler }

func (h onlyErrors) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h onlyErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyErrors{h.Handler.WithAttrs(attrs)}
}

func (h onlyErrors) WithGroup(name string) slog.Handler {
	return onlyErrors{h.Handler.WithGroup(name)}
}
