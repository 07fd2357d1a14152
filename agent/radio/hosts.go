package radio

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// afterDrop is how long a host is left alone after a connection to it broke or was not answered.
const afterDrop = 5 * time.Second

// Hosts keeps all receivers of a station polite: a host that refused one of them is left alone by all until its time is
// over. Its methods may be called from any goroutine.
type Hosts struct {
	mu    sync.Mutex
	hosts map[string]*quiet
}

// quiet is a host that is left alone.
type quiet struct {
	until time.Time // by the monotonic clock
	why   Refusal
}

// NewHosts makes a register in which no host has refused.
func NewHosts() *Hosts { return &Hosts{hosts: map[string]*quiet{}} }

// enter returns a *Refusal of a source while its host is to be left alone, with the reason that another source may have been given.
func (h *Hosts) enter(host, source string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.hosts[host]
	if q == nil {
		return nil
	}
	left := time.Until(q.until)
	if left <= 0 {
		delete(h.hosts, host)
		return nil
	}
	no := q.why
	no.Where, no.After = source, left
	return &no
}

// leave notes why a connection to a host was not made, or ended. That nobody wanted it any more is no reason to stay away.
func (h *Hosts) leave(host string, err error) {
	if host == "" || err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return
	}
	no := Refusal{Where: host, Reason: "dropped", Mend: err.Error()}
	if refusal, said := errors.AsType[*Refusal](err); said {
		no = *refusal
	} else if !loopback(host) {
		no.After = afterDrop
	}
	if no.After <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until := time.Now().Add(no.After)
	if q := h.hosts[host]; q == nil || until.After(q.until) {
		h.hosts[host] = &quiet{until: until, why: no}
	}
}

// loopback tells whether a host is this machine, where nobody counts how often one knocks.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
