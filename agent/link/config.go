package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Item is a record to send: durable, and without its identity inside the payload.
type Item struct {
	Spool   [protocol.SpoolBytes]byte
	Seq     uint64
	Kind    protocol.Kind
	Time    time.Time
	Backlog bool // newer records went before it
	Payload []byte
}

// Queue is where records come from.
type Queue interface {
	// Next waits for the next record to send. Each comes once until Rewind or Retry.
	Next(ctx context.Context) (Item, error)
	// Retry makes some records come again, Rewind all that are unacknowledged.
	Retry(spool [protocol.SpoolBytes]byte, seqs protocol.Ranges)
	Rewind()
	// SetLinkUp tells whether there is a way out.
	SetLinkUp(up bool)
}

// Settler is told what became of records.
type Settler interface {
	// Ack: another has them on disk now.
	Ack(spool [protocol.SpoolBytes]byte, settled protocol.Ranges)
	// Conflict: lowest, and perhaps later numbers, are in use with another content.
	Conflict(spool [protocol.SpoolBytes]byte, lowest uint64)
	// GiveUp: they will never be taken.
	GiveUp(spool [protocol.SpoolBytes]byte, seqs protocol.Ranges, reason protocol.Gap_Reason)
}

// Config is what a Link needs. Zero values take the defaults named.
type Config struct {
	Station  string
	Prefix   string // of all topics; heimdall
	URL      string // mqtt://host:1883 or mqtts://host:8883
	Username string
	Password string
	CA       string // PEM file of the authorities to trust instead of the system's
	Cert     string // PEM file of the client's certificate
	Key      string // PEM file of its key

	JSON      bool // records as JSON, one a message
	Single    bool // one record a message also when they come fast or have waited: for comparison
	BrokerAck bool // a record is done at the broker's PUBACK: for use without a collector

	WindowMessages int           // on their way at once; 64
	WindowBytes    int           // likewise; 256 KiB
	Timeout        time.Duration // for an acknowledgement, doubling up to ten times as much; 30 s
	MaxBackoff     time.Duration // between attempts to connect; 1 min
	MaxAway        time.Duration // while another client uses the station's id; a sixth of it at least; 30 min
	KeepAlive      time.Duration // whole seconds; 30 s

	Queue   Queue
	Settler Settler
	// Handler executes an order. It is called for one order at a time; 32 may wait.
	Handler func(ctx context.Context, cmd *protocol.Command)
	// Answer replies to an order that never reaches Handler: expired, malformed, one too many.
	Answer func(ctx context.Context, reply *protocol.Reply)

	Log *slog.Logger     // nil: silent
	Now func() time.Time // nil: time.Now; for the expiry of orders
	// ClockSet tells whether the clock is set; nil: it is. The times in a broker's certificate are judged by a set clock alone.
	ClockSet func() bool

	// Elsewhere is published on each connection, and again some time up to MaxRepeat (20 s) after somebody says on Started that he is
	// online.
	Elsewhere []Retained
	Started   string // topic; empty: none
	MaxRepeat time.Duration

	// Wrote is told of bytes that went to the network; nil: nobody counts.
	Wrote func(bytes int)
	// UsedUp tells that nothing may be sent any more, not even that the station is there; nil: anything may.
	UsedUp func() bool

	tooLarge *seldom // when to warn of a message that is too large
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = protocol.DefaultPrefix
	}
	if c.WindowMessages == 0 {
		c.WindowMessages = 64
	}
	if c.WindowBytes == 0 {
		c.WindowBytes = 256 << 10
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = time.Minute
	}
	if c.MaxAway == 0 {
		c.MaxAway = 30 * time.Minute
	}
	if c.MaxRepeat == 0 {
		c.MaxRepeat = longestRepeat
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.tooLarge == nil {
		c.tooLarge = new(seldom)
	}
	return c
}

// sayTooLarge says that a message was not let in.
func (c Config) sayTooLarge(topic string, bytes int) {
	if unsaid, ok := c.tooLarge.say(time.Now()); ok {
		c.Log.Warn("a message is far too large and was ignored: see who publishes there, and clear it at the broker if it is retained",
			"topic", topic, "bytes", bytes, "limit_bytes", mostPacket, "lines_left_out", unsaid)
	}
}

func (c Config) check() error {
	if c.Queue == nil || c.Settler == nil || c.Handler == nil || c.Answer == nil {
		return errors.New("link: Queue, Settler, Handler and Answer are needed")
	}
	if c.WindowMessages < 0 || c.WindowBytes < 0 || c.Timeout < 0 || c.MaxBackoff < 0 || c.MaxAway < 0 || c.KeepAlive < time.Second {
		return errors.New("link: a negative window or time, or a keep-alive under a second")
	}
	if err := protocol.ValidStation(c.Station); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := protocol.ValidPrefix(c.Prefix); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if _, err := c.address(); err != nil {
		return err
	}
	if _, err := c.tls(); err != nil {
		return err
	}
	return nil
}

// address is the broker's host and port.
func (c Config) address() (string, error) {
	notURL := errors.New("mqtt.url: not the address of a broker: write mqtt://host:1883 or mqtts://host:8883")
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", notURL // err would show a password in it
	}
	ports := map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883"}
	port, ok := ports[u.Scheme]
	if !ok || u.Hostname() == "" {
		return "", notURL // nor u.Redacted(): without a scheme a password is no part that it knows
	}
	if u.User != nil {
		return "", fmt.Errorf("mqtt.url: %s: write the account in mqtt.username and mqtt.password", u.Redacted())
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// tls is how to speak TLS; nil when the URL asks for none. Files are read anew for each connection, as certificates are
// renewed.
func (c Config) tls() (*tls.Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("mqtt.url: %w", err)
	}
	if u.Scheme == "mqtt" || u.Scheme == "tcp" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("mqtt.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mqtt.ca: %s: no certificate in it: want PEM", c.CA)
		}
	}
	if c.ClockSet != nil && !c.ClockSet() {
		timeless(conf)
	}
	if c.Cert == "" && c.Key == "" {
		return conf, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("mqtt.cert and mqtt.key: %w", err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// timeless has all of a broker's certificate checked but its times: by a clock that is not set each would be of the future.
func timeless(conf *tls.Config) {
	roots, name := conf.RootCAs, conf.ServerName
	conf.InsecureSkipVerify = true // the next lines check in its place
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		options := x509.VerifyOptions{
			Roots: roots, DNSName: name, Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2),
		}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		_, err := leaf.Verify(options)
		return err
	}
}
