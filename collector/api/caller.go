package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Tokens keeps the tokens of this interface. Its errors are like those of [Reader].
type Tokens interface {
	// TokenOf gives the token of a secret, unless it has ended.
	TokenOf(ctx context.Context, secret string) (*protocol.Token, error)
	Tokens(ctx context.Context) ([]protocol.Token, error)
	// AddToken makes a token, and gives the secret that nobody can ask for again. RevokeToken ends one. Both note who did it.
	AddToken(ctx context.Context, t protocol.Token, actor string) (secret string, err error)
	RevokeToken(ctx context.Context, name, actor string) error
}

// roleOpen is the role of routes that ask for no token.
const roleOpen protocol.Role = "open"

// ruled refuses a table in which a route does not say who may ask for it.
func ruled(table []route) error {
	for _, rt := range table {
		if rt.role != roleOpen && !rt.role.Known() {
			return fmt.Errorf("api: %s %s: role %q, want open, viewer, operator or admin", rt.method, rt.path, rt.role)
		}
	}
	return nil
}

// caller is who asks: a token, somebody on the collector's own machine, or nobody known.
type caller struct {
	name    string // of the token, or local; empty for nobody known
	role    protocol.Role
	address string // where the request comes from
	// stations are all that the caller may see and order; nil for every one.
	stations []string
	secret   string // of the token
}

// callerOf is who asks. Where nobody has been asked it is one that may nothing.
func callerOf(ctx context.Context) *caller {
	if who, ok := ctx.Value(callerKey).(*caller); ok {
		return who
	}
	return &caller{stations: []string{}}
}

// identify tells who asks, and refuses who may not.
func (s *server) identify(rt *route, r *http.Request) (*caller, error) {
	address := addressOfClient(r)
	if !s.AskTokens {
		return &caller{name: protocol.ActorLocal, role: protocol.RoleAdmin, address: address}, nil
	}
	secret, given := bearer(r.Header)
	if !given && rt.role != roleOpen {
		return nil, unauthorized.with("the request has no token", fieldError("Authorization", "", tokenAdvice))
	}
	nobody := &caller{address: address, stations: []string{}}
	if !given {
		return nobody, nil
	}
	who, err := s.holder(r, secret, address)
	if err != nil && rt.role == roleOpen { // whatever is wrong with the token: it was not needed
		return nobody, nil
	}
	if err != nil {
		return nil, err
	}
	return who, who.allowed(rt)
}

const tokenAdvice = "send Authorization: Bearer and a token, as `heimdall-collector token add` prints it"

// holder is the caller who has a secret.
func (s *server) holder(r *http.Request, secret, address string) (*caller, error) {
	token, err := s.Tokens.TokenOf(r.Context(), secret)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if wait := s.failures.take(network(address)); wait > 0 {
			return nil, tooMany.after(wait, "too many wrong tokens came from this address")
		}
		s.Log.WarnContext(r.Context(), "a token was refused", "address", address, "request", requestID(r.Context()))
		return nil, unauthorized.with("the token is not known here, was revoked or has expired", fieldError("Authorization", "", tokenAdvice))
	case err != nil:
		s.Log.ErrorContext(r.Context(), "cannot look for a token", "request", requestID(r.Context()), "error", err)
		return nil, unavailable.with("whether the token is right cannot be told at the moment; the cause is in the collector's log")
	}
	if wait := s.requests.take(token.Name); wait > 0 {
		return nil, tooMany.after(wait, "this token asks too often")
	}
	who := &caller{name: token.Name, role: token.Role, address: address, secret: secret}
	if len(token.Stations) > 0 {
		who.stations = token.Stations
	}
	return who, nil
}

// holds tells whether the caller's token still does. While the database is away nobody loses what he has.
func (s *server) holds(ctx context.Context, who *caller) bool {
	if who.secret == "" {
		return true
	}
	_, err := s.Tokens.TokenOf(ctx, who.secret)
	return !errors.Is(err, fs.ErrNotExist)
}

// allowed refuses what a token may not.
func (c *caller) allowed(rt *route) error {
	switch {
	case rt.role == roleOpen:
	case !c.role.May(rt.role):
		return forbidden.with(fmt.Sprintf("token %s is %s, and this is for %s", c.name, article(c.role), article(rt.role)),
			fieldError("Authorization", "", "send a token of that role"))
	case rt.network && c.stations != nil:
		return forbidden.with(fmt.Sprintf("token %s is limited to stations, and this tells of all", c.name),
			fieldError("Authorization", "", "send a token that is not limited"))
	}
	return nil
}

func article(role protocol.Role) string {
	if role == protocol.RoleViewer {
		return "a viewer"
	}
	return "an " + string(role)
}

// bearer is the token of a request.
func bearer(h http.Header) (secret string, given bool) {
	scheme, secret, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.TrimSpace(secret), strings.EqualFold(scheme, "Bearer")
}

// addressOfClient is where a request comes from, without the port. Of a client behind a proxy it is the proxy's: headers that
// say more can be written by anybody.
func addressOfClient(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// network is what one client can take for itself: an address, or the half of an IPv6 address that its provider gives.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}

// named tells whether a request came under one of the names that this interface goes by. A page of another site, whose name was
// made to lead here, comes under its own. [DNS rebinding]
func (s *server) named(host string) bool {
	if s.GoesBy == nil || host == "" { // a browser always says it
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return s.GoesBy(strings.ToLower(strings.TrimSuffix(name, ".")))
}

// checkEvery is how soon an answer that goes on notices that the token has been revoked.
const checkEvery = 5 * time.Second
