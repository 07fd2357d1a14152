package link

// Visitor is what a client says of itself when it connects to the embedded broker.
type Visitor struct {
	ClientID, Username, Password string
	CommonName                   string // of its certificate, which was verified; empty: it has none
}

// Pass is what a client that was let in may do. Calls come from many goroutines at once.
type Pass interface {
	// Username is the account that it belongs to.
	Username() string
	// Valid turns false when the account ends. Then Sweep is to be called.
	Valid() bool
	// May tells whether the client may publish to a topic, or subscribe to a filter and receive what matches it.
	May(publish bool, filter string) bool
}

// Restrict lets in only whom admit gives a pass; nil refuses a client. It is called before Run. Without it everybody may do
// everything.
func (b *Broker) Restrict(admit func(Visitor) Pass) { b.listener.admission = admit }

// Sweep ends the sessions whose passes are not valid any more.
func (b *Broker) Sweep() {
	l := b.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	for g := range l.guests {
		if g.pass != nil && !g.pass.Valid() {
			_ = g.Close()
		}
	}
}

// Return codes of CONNACK, MQTT 3.1.1 section 3.2.2.3.
const (
	refusedClientID = 2
	refusedAccount  = 5
)

// enter lets a client in under its client id. It tells whether it did; else the client knows why.
func (l *listener) enter(g *guest, hello connectPacket) bool {
	if l.admission != nil {
		pass := l.admission(Visitor{ClientID: hello.clientID, Username: hello.username, Password: hello.password, CommonName: g.name})
		if pass == nil {
			_, _ = g.Write([]byte{0x20, 2, 0, refusedAccount})
			return false
		}
		l.mu.Lock()
		g.pass = pass
		l.mu.Unlock()
		if !pass.Valid() { // Sweep may have passed by before
			return false
		}
	}
	return l.call(g, hello.clientID)
}

// forAnother tells whether two connections belong to different accounts.
func (g *guest) forAnother(other *guest) bool {
	return g.pass != nil && other.pass != nil && g.pass.Username() != other.pass.Username()
}

// mayRead tells whether a client may subscribe to a filter, or receive what was published to a topic.
func (g *guest) mayRead(filter string) bool { return g.pass == nil || g.pass.May(false, filter) }

// mayPublish tells whether a client may publish to a topic.
func (g *guest) mayPublish(topic string) bool { return g.pass == nil || g.pass.May(true, topic) }
