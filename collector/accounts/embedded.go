package accounts

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fulgidus/heimdall/protocol"
)

// Embedded judges who comes to the embedded broker, and what they do there.
type Embedded struct {
	rules Rules
	// sweep ends the sessions of passes that are not valid any more.
	sweep func()
	own   *Pass

	mu    sync.Mutex // guards known
	known map[string]*Pass
}

// Pass is what somebody who was let in may do, until it is revoked.
type Pass struct {
	account protocol.Account
	rights  []right
	clears  func(topic string) bool // of a collector: whether a topic is one that it takes back for stations; nil: none
	revoked atomic.Bool
}

// NewEmbedded makes a broker's door that knows nobody but this collector itself, and gives the collector's password, which is
// another one each time. Sweep is called when sessions have to end.
func NewEmbedded(rules Rules, sweep func()) (*Embedded, string, error) {
	password := newPassword()
	hash, err := hashPassword(password)
	if err != nil {
		return nil, "", fmt.Errorf("make the collector's own account: %w", err)
	}
	own := &Pass{account: protocol.Account{Username: protocol.CollectorUsername, Hash: hash}, rights: rules.collector(), clears: rules.describes}
	return &Embedded{rules: rules, sweep: sweep, own: own, known: make(map[string]*Pass)}, password, nil
}

// Credentials is what a client says of itself when it connects.
type Credentials struct {
	ClientID, Username, Password string
	CommonName                   string // of its certificate, which was verified; empty: it has none
}

// Admit gives a client its pass; nil refuses it. A certificate speaks for the station of its name, or for a collector, and for
// nobody else.
func (e *Embedded) Admit(c Credentials) *Pass {
	if c.CommonName != "" && c.Username != "" && c.Username != c.CommonName {
		return nil
	}
	name := c.Username
	if c.CommonName != "" {
		name = c.CommonName
	}
	e.mu.Lock()
	pass := e.known[name]
	e.mu.Unlock()
	if name == protocol.CollectorUsername {
		pass = e.own
	}
	if pass == nil || !mayCallItself(pass.account, c.ClientID) {
		return nil
	}
	if c.CommonName != "" {
		if pass.account.Kind == protocol.AccountSubscriber {
			return nil
		}
		return pass
	}
	if !fits(pass.account.Hash, c.Password) {
		return nil
	}
	return pass
}

// Valid tells whether the account is still one.
func (p *Pass) Valid() bool { return !p.revoked.Load() }

// Username is whose pass it is.
func (p *Pass) Username() string { return p.account.Username }

// May tells whether the account may publish to a topic, or subscribe to a filter and receive what matches it.
func (p *Pass) May(publish bool, filter string) bool {
	if p.revoked.Load() {
		return false
	}
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok { // it takes messages away from others
		if p.account.Username != protocol.CollectorUsername {
			return false
		}
		_, filter, _ = strings.Cut(rest, "/")
	}
	return allowed(p.rights, publish, filter) || publish && p.clears != nil && p.clears(filter)
}

// Repair makes the door agree with the list.
func (e *Embedded) Repair(_ context.Context, valid []protocol.Account) error {
	e.mu.Lock()
	before := e.known
	e.known = make(map[string]*Pass, len(valid))
	for _, a := range valid {
		e.put(a, before[a.Username])
		delete(before, a.Username)
	}
	for _, gone := range before {
		gone.revoked.Store(true)
	}
	e.mu.Unlock()
	e.sweep()
	return nil
}

// put lets an account in. The sessions of one that is as it was go on. mu is held.
func (e *Embedded) put(a protocol.Account, before *Pass) {
	if before != nil && before.account.Kind == a.Kind && before.account.Hash == a.Hash {
		e.known[a.Username] = before
		return
	}
	if before != nil {
		before.revoked.Store(true)
	}
	e.known[a.Username] = &Pass{account: a, rights: e.rules.of(a)}
}

// Set lets an account in.
func (e *Embedded) Set(_ context.Context, account protocol.Account, _ string) error {
	e.mu.Lock()
	e.put(account, e.known[account.Username])
	e.mu.Unlock()
	e.sweep()
	return nil
}

// Drop lets an account in no more, and ends its sessions.
func (e *Embedded) Drop(_ context.Context, account protocol.Account) error {
	e.mu.Lock()
	if pass := e.known[account.Username]; pass != nil {
		pass.revoked.Store(true)
		delete(e.known, account.Username)
	}
	e.mu.Unlock()
	e.sweep()
	return nil
}

// Note has nothing to say: changes hold at once.
func (*Embedded) Note() string { return "" }

// mayCallItself tells whether an account may use a client id. Those of agents and collectors belong to them alone, for whoever
// takes a client id ends the session that had it.
func mayCallItself(a protocol.Account, clientID string) bool {
	switch {
	case strings.HasPrefix(clientID, protocol.CollectorClientPrefix):
		return a.Username == protocol.CollectorUsername
	case strings.HasPrefix(clientID, protocol.AgentClientPrefix):
		return a.Kind == protocol.AccountStation && clientID == protocol.AgentClientPrefix+a.Username
	}
	return true
}
