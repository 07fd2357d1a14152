package soak

import (
	"context"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
	"github.com/fulgidus/heimdall/protocol"
)

// askWithin is how long the database may take to prove an acknowledgement; when it is down, there is no proof either way.
const askWithin = 500 * time.Millisecond

// ackWatcher reads every acknowledgement that is published and asks the database at once whether it is true.
type ackWatcher struct {
	w      *world
	client mqtt.Client
	conn   *pgx.Conn // only the client's one callback uses it

	mu     sync.Mutex // guards all below
	acks   map[protocol.Stream]*invariant.Ack
	proved int
}

func watchAcks(w *world) (*ackWatcher, error) {
	a := &ackWatcher{w: w, acks: map[protocol.Stream]*invariant.Ack{}}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + w.broker.Addr).SetClientID("soak-acks").
		SetAutoReconnect(true).SetMaxReconnectInterval(time.Second).SetConnectTimeout(2 * time.Second).SetPingTimeout(2 * time.Second).
		SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe("heimdall/v1/+/ack/+", 1, a.take) })
	a.client = mqtt.NewClient(options)
	if token := a.client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		return nil, fmt.Errorf("watch acknowledgements: %w", token.Error())
	}
	return a, nil
}

func (a *ackWatcher) take(_ mqtt.Client, m mqtt.Message) {
	topic, err := protocol.Topics{}.Parse(m.Topic())
	if err != nil || len(m.Payload()) == 0 {
		return
	}
	ack, err := protocol.DecodeAck(m.Payload())
	if err != nil {
		a.w.violate("the acknowledgement on %s makes no sense: %v", m.Topic(), err)
		return
	}
	stream := protocol.Stream{Station: topic.Station, Spool: topic.Spool}
	settled := protocol.RangesOf(ack.GetSettled())
	unproven, proved := a.prove(stream, settled)
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.acks[stream]
	if known == nil {
		known = &invariant.Ack{Station: stream.Station, Spool: stream.Spool}
		a.acks[stream] = known
	}
	known.Settled = known.Settled.Union(settled)
	known.Unproven = known.Unproven.Union(unproven)
	if proved {
		a.proved++
	}
}

// prove tells what the database does not hold.
func (a *ackWatcher) prove(stream protocol.Stream, settled protocol.Ranges) (unproven protocol.Ranges, proved bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	var err error
	if a.conn == nil || a.conn.IsClosed() {
		if a.conn, err = pgx.Connect(ctx, a.w.databaseURL()); err != nil {
			return nil, false
		}
	}
	held, err := invariant.Settled(ctx, a.conn, stream.Station, stream.Spool)
	if err != nil {
		return nil, false
	}
	return settled.Subtract(held), true
}

// all is what was seen.
func (a *ackWatcher) all() []invariant.Ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []invariant.Ack
	for _, ack := range a.acks {
		all = append(all, *ack)
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.w.counts["acks_proved"] = a.proved
	return all
}

func (a *ackWatcher) close() {
	a.client.Disconnect(100)
	if a.conn != nil {
		_ = a.conn.Close(context.Background()) // it only read
	}
}
