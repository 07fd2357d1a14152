package link

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Limits of what clients can have the broker keep.
const (
	maxSubscriptions = 512 // of one client
	maxRetained      = 16384
	maxRetainedBytes = 64 << 20
)

// door holds clients to what their passes allow, where there are passes; and nobody can make it keep more than a bound.
type door struct {
	mochi.HookBase
	log     *slog.Logger
	refused seldom

	// retaining is written to by whoever retains a message and read by whoever is sent the retained ones. mochi v2.7.9
	// has no lock around the latter, and would read a string while it changes.
	retaining sync.RWMutex

	mu            sync.Mutex     // guards the rest
	retained      map[string]int // bytes of each retained message
	retainedBytes int
}

func newDoor(log *slog.Logger) *door { return &door{log: log, retained: make(map[string]int)} }

// ID names the hook in mochi's log.
func (*door) ID() string { return "door" }

// Provides tells which questions the hook answers.
func (*door) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnConnect, mochi.OnPacketRead, mochi.OnSubscribe,
		mochi.OnPacketProcessed, mochi.OnPublish, mochi.OnWill, mochi.OnRetainMessage, mochi.OnQosPublish, mochi.OnQosComplete, mochi.OnQosDropped,
	}, b) >= 0
}

// OnConnectAuthenticate accepts whom the listener has given a pass. Where there are no passes it accepts any name and password on plain
// connections: only this machine reaches the broker then. With TLS it wants a certificate, and that the client says nothing else of itself.
func (*door) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	g, ok := cl.Net.Conn.(*guest)
	if !ok {
		return false
	}
	if _, secure := g.Conn.(*tls.Conn); !secure || g.pass != nil {
		return true
	}
	username := string(pk.Connect.Username)
	id, agent := strings.CutPrefix(pk.Connect.ClientIdentifier, agentPrefix)
	return g.name != "" && (username == "" || username == g.name) && (!agent || id == g.name)
}

// OnConnect makes every session a clean one: what a session would keep for its client is kept by the agents. A will where the client may not
// publish goes nowhere, as messages do: Home Assistant always has one.
func (d *door) OnConnect(cl *mochi.Client, _ packets.Packet) error {
	cl.Properties.Clean = true
	if g, ok := cl.Net.Conn.(*guest); ok && cl.Properties.Will.Flag != 0 && !g.mayPublish(cl.Properties.Will.TopicName) {
		d.log.Debug("a client has a will where it may not publish: it goes nowhere", "username", g.pass.Username(), "topic", cl.Properties.Will.TopicName)
		cl.Properties.Will = mochi.Will{}
	}
	return nil
}

// OnACLCheck is asked about each filter and each message to a client, and also holds messages back from one that does not take
// what it has. What a client publishes is for OnPublish to judge: mochi would end the session of one that publishes where it may not.
func (*door) OnACLCheck(cl *mochi.Client, filter string, write bool) bool {
	g, ok := cl.Net.Conn.(*guest)
	return write || !ok || g.mayRead(filter) && !g.full()
}

// OnPacketRead frees the packet identifier of a request. mochi keeps the identifiers of both directions in one table, and
// refuses a subscription whose number some unacknowledged message to the client has by chance.
func (d *door) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if t := pk.FixedHeader.Type; t == packets.Subscribe || t == packets.Unsubscribe {
		if cl.State.Inflight.Delete(pk.PacketID) {
			d.OnQosDropped(cl, pk)
		}
	}
	return pk, nil
}

// OnSubscribe refuses what is over the limit: mochi answers that an empty filter is not valid.
func (d *door) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if g, ok := cl.Net.Conn.(*guest); ok {
		g.enter(d.retaining.RLock, d.retaining.RUnlock)
	}
	if len(cl.State.Subscriptions.GetAll())+len(pk.Filters) > maxSubscriptions {
		for i := range pk.Filters {
			pk.Filters[i].Filter = ""
		}
	}
	return pk
}

// OnPacketProcessed ends what OnSubscribe began.
func (*door) OnPacketProcessed(cl *mochi.Client, _ packets.Packet, _ error) {
	if g, ok := cl.Net.Conn.(*guest); ok {
		g.exit()
	}
}

// OnPublish passes a message on without retaining it when too much is retained. One that its client may not publish is confirmed and
// goes nowhere, as MQTT 3.1.1 has no other answer than to end the session.
func (d *door) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if g, ok := cl.Net.Conn.(*guest); ok && !g.mayPublish(pk.TopicName) {
		if more, ok := d.refused.tell(time.Now()); ok {
			d.log.Warn("a client published where it may not: the message goes nowhere", "username", g.pass.Username(), "topic", pk.TopicName, "untold", more)
		}
		return pk, packets.CodeSuccessIgnore
	}
	pk.FixedHeader.Retain = pk.FixedHeader.Retain && d.retain(cl, pk.TopicName, len(pk.Payload))
	return pk, nil
}

// OnWill does the same for the message that a client leaves behind.
func (d *door) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	will.Retain = will.Retain && d.retain(cl, will.TopicName, len(will.Payload))
	return will, nil
}

// retain tells whether a message may be retained. If so, nobody reads what is retained until OnRetainMessage, which mochi
// calls next.
func (d *door) retain(cl *mochi.Client, topic string, payload int) bool {
	g, ok := cl.Net.Conn.(*guest)
	if !ok || !d.room(topic, payload) {
		return false
	}
	g.enter(d.retaining.Lock, d.retaining.Unlock)
	return true
}

func (d *door) room(topic string, payload int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, replaces := d.retained[topic]
	return payload == 0 || (replaces || len(d.retained) < maxRetained) && d.retainedBytes-old+len(topic)+payload <= maxRetainedBytes
}

// OnRetainMessage counts what is retained.
func (d *door) OnRetainMessage(cl *mochi.Client, pk packets.Packet, _ int64) {
	if g, ok := cl.Net.Conn.(*guest); ok {
		g.exit()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.retainedBytes -= d.retained[pk.TopicName]
	delete(d.retained, pk.TopicName)
	if len(pk.Payload) > 0 {
		d.retained[pk.TopicName] = len(pk.TopicName) + len(pk.Payload)
		d.retainedBytes += d.retained[pk.TopicName]
	}
}

// OnQosPublish counts a message that its client has to acknowledge.
func (*door) OnQosPublish(cl *mochi.Client, pk packets.Packet, _ int64, _ int) {
	if g, ok := cl.Net.Conn.(*guest); ok && pk.FixedHeader.Type == packets.Publish {
		g.sent(pk.PacketID, len(pk.TopicName)+len(pk.Payload))
	}
}

// OnQosComplete and OnQosDropped count it no more.
func (*door) OnQosComplete(cl *mochi.Client, pk packets.Packet) {
	if g, ok := cl.Net.Conn.(*guest); ok {
		g.acked(pk.PacketID)
	}
}

// OnQosDropped is told of messages that are not kept any longer.
func (d *door) OnQosDropped(cl *mochi.Client, pk packets.Packet) { d.OnQosComplete(cl, pk) }
