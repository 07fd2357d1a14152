package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// network is the way to the broker; a station without one keeps what it measures.
type network struct {
	url       string
	brokerAck bool       // a record leaves on the broker's word: no collector is waited for
	link      *link.Link // nil without a broker
	renewer   *identity.Renewer
	first     atomic.Int64 // ns from the start to the first acknowledgement; 0 before it
}

// outbox shows the spool to the link.
type outbox struct{ *spool.Spool }

// Next waits for the next record to send.
func (o outbox) Next(ctx context.Context) (link.Item, error) {
	item, err := o.Spool.Next(ctx)
	return link.Item(item), err
}

// settler shows the spool what became of records, and notes when the first of them was acknowledged since the start.
type settler struct {
	*spool.Spool
	first func()
}

// Ack tells of records that another has on disk.
func (s settler) Ack(identity [protocol.SpoolBytes]byte, settled protocol.Ranges) {
	s.Spool.Ack(identity, settled)
	if !settled.Empty() {
		s.first()
	}
}

func newNetwork(a *Agent) (*network, error) {
	n := &network{url: a.cfg.MQTT.URL, brokerAck: a.cfg.Delivery.Ack == "broker"}
	if n.url == "" {
		return n, nil
	}
	cfg := linkConfig(a.cfg)
	cfg.Queue, cfg.Settler = outbox{a.spool}, settler{a.spool, sync.OnceFunc(func() {
		after := a.uptime()
		n.first.Store(int64(after))
		a.log.Info("first record acknowledged", "after", after.Round(time.Millisecond))
	})}
	if a.daily != nil {
		cfg.Queue, cfg.Wrote, cfg.UsedUp = rationed{outbox{a.spool}, a.daily}, a.daily.Wrote, a.daily.UsedUp
	}
	cfg.Handler, cfg.Answer = a.orders.take, a.orders.reply
	cfg.Log, cfg.Now = a.log.With("component", "link"), a.now
	cfg.ClockSet = func() bool { return a.clock.Reading().Set }
	var err error
	if cfg.Elsewhere, cfg.Started, err = a.retainedElsewhere(); err != nil {
		return n, err
	}
	if n.link, err = link.New(cfg); err != nil {
		return n, err
	}
	n.renewer = &identity.Renewer{State: a.cfg.Spool.Path, Now: trueTime(a.clock), Renewed: n.link.Reconnect, Log: a.log.With("component", "identity")}
	return n, nil
}

// linkConfig is the part of the link's configuration that the file decides.
func linkConfig(c Config) link.Config {
	m := c.MQTT
	return link.Config{
		Station: c.Station.ID, Prefix: m.Prefix, URL: m.URL, Username: m.Username, Password: string(m.Password),
		CA: m.CA, Cert: m.Cert, Key: m.Key, JSON: m.Format == "json", BrokerAck: c.Delivery.Ack == "broker",
		WindowMessages: c.Delivery.Window, Timeout: time.Duration(c.Delivery.Timeout),
	}
}

func (n *network) run(ctx context.Context) error {
	if n.link == nil {
		<-ctx.Done()
		return nil
	}
	var renewing sync.WaitGroup
	defer renewing.Wait()
	renewing.Go(func() { _ = n.renewer.Run(ctx) }) // which ends with the context only
	return n.link.Run(ctx)
}

func (n *network) setInfo(text []byte) {
	if n.link != nil {
		n.link.SetInfo(text)
	}
}

func (n *network) setState(text []byte) {
	if n.link != nil {
		n.link.SetState(text)
	}
}

// waitsFor says what keeps records here although the broker is reached; empty when nothing does.
func (n *network) waitsFor() string {
	if n.link == nil || n.brokerAck || !n.link.Connected() || n.link.CollectorOnline() {
		return ""
	}
	return "no collector is online: records are kept here until one is"
}

// duplicateIdentity is what to say while another client uses the station's id.
const duplicateIdentity = "duplicate_identity: another agent is connected to the broker as this station, and this one leaves it alone for " +
	"5 to 30 minutes at a time: give each its own station.id"

// hasRival tells whether another client uses the station's id.
func (n *network) hasRival() bool { return n.link != nil && n.link.DuplicateIdentity() }

// sent is how many records were sent since the start, each as often as it was.
func (n *network) sent() uint64 {
	if n.link == nil {
		return 0
	}
	return n.link.Sent()
}

func (n *network) status() linkStatus {
	s := linkStatus{URL: n.url, DuplicateIdentity: n.hasRival(), FirstAcknowledgedS: round(time.Duration(n.first.Load()).Seconds(), 1e3)}
	if n.link != nil {
		s.Connected, s.CollectorOnline = n.link.Connected(), n.link.CollectorOnline()
	}
	return s
}
