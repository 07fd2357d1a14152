package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// TokenCmd looks after the tokens of the REST API.
type TokenCmd struct {
	Add    TokenAddCmd    `cmd:"" help:"Make a token, and print its secret once."`
	List   TokenListCmd   `cmd:"" help:"Who may ask: role, stations, last use."`
	Revoke TokenRevokeCmd `cmd:"" help:"End a token at once."`
}

// Help begins with the example.
func (TokenCmd) Help() string {
	return "Example:  heimdall-collector token add club --role viewer"
}

const whereTokens = "Works in the database that the configuration names, also while the collector runs, and so makes the first token, too; " +
	"with --url or HEIMDALL_URL, at a running collector, which wants an admin's token in HEIMDALL_TOKEN where http.tokens is on."

// tokenPlace is where tokens are kept: the database of a configuration, or a running collector.
type tokenPlace struct {
	remote `embed:""`
}

// open finds the tokens. Close what it gives.
func (p tokenPlace) open(ctx context.Context, w io.Writer, command string) (tokenKeeper, error) {
	if p.address() != "" && p.Config == "" {
		return remoteTokens(p), nil
	}
	cfg, err := configFlag{Config: p.Config}.load(w)
	if err != nil {
		return nil, err
	}
	db, err := openUsed(ctx, cfg, command)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// tokenKeeper keeps tokens.
type tokenKeeper interface {
	AddToken(ctx context.Context, t protocol.Token, actor string) (secret string, err error)
	Tokens(ctx context.Context) ([]protocol.Token, error)
	RevokeToken(ctx context.Context, name, actor string) error
	Close() error
}

// remoteTokens are those of a running collector, which knows by itself who acts.
type remoteTokens struct{ remote }

func (r remoteTokens) AddToken(ctx context.Context, t protocol.Token, _ string) (string, error) {
	request := api.TokenRequest{Name: t.Name, Role: string(t.Role), Stations: t.Stations}
	if expires, err := protocol.ParseTime(t.Expires); err == nil {
		request.TTL = time.Until(expires).Round(time.Second).String()
	}
	var made api.MadeToken
	err := r.call(ctx, http.MethodPost, "/api/v1/tokens", request, &made)
	return made.Secret, err
}

func (r remoteTokens) Tokens(ctx context.Context) ([]protocol.Token, error) {
	var list struct{ Items []protocol.Token }
	err := r.call(ctx, http.MethodGet, "/api/v1/tokens", nil, &list)
	return list.Items, err
}

func (r remoteTokens) RevokeToken(ctx context.Context, name, _ string) error {
	return r.call(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(name), nil, nil)
}

// Close has nothing to give back.
func (remoteTokens) Close() error { return nil }

// TokenAddCmd makes a token.
type TokenAddCmd struct {
	tokenPlace `embed:""`
	Name       string           `arg:"" help:"What the audit calls whoever uses it: 1 to 32 of a-z, 0-9 and -."`
	Role       string           `required:"" enum:"viewer,operator,admin" help:"viewer looks, operator also orders and cancels acquisitions, admin also looks after stations and accounts." placeholder:"viewer|operator|admin"`
	Stations   []string         `help:"It sees and orders no others, like torino,genova." placeholder:"a,b"`
	TTL        configs.Duration `name:"ttl" help:"It ends by itself after so long, like 30d." placeholder:"D"`
	JSON       bool             `name:"json" help:"One JSON object with the token and its secret."`
}

// Help begins with the example.
func (TokenAddCmd) Help() string {
	return "Example:  heimdall-collector token add club --role operator --stations torino,genova --ttl 365d\n\nPrints the secret, which nobody can ask for again: only its hash is kept. Clients send it as Authorization: Bearer, and commands of this program take it from HEIMDALL_TOKEN. " + whereTokens
}

// Run is called by the command line.
func (c TokenAddCmd) Run(ctx context.Context, s streams) error {
	token := protocol.Token{Name: c.Name, Role: protocol.Role(c.Role), Stations: c.Stations}
	if c.TTL < 0 {
		return usageError{fmt.Errorf("--ttl %s: want a time above 0, like 30d", c.TTL)}
	}
	if c.TTL > 0 {
		token.Expires = protocol.FormatTime(time.Now().Add(time.Duration(c.TTL)))
	}
	place, err := c.open(ctx, s.err, "token add")
	if err != nil {
		return err
	}
	defer func() { _ = place.Close() }() // what was done is committed
	secret, err := place.AddToken(ctx, token, protocol.ActorLocal)
	if faults, ok := errors.AsType[protocol.FieldErrors](err); ok {
		return usageError{faults}
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(api.MadeToken{Token: token, Secret: secret})
	}
	fmt.Fprintf(s.err, "token %s: %s%s; keep it, for it is shown only now\n", c.Name, c.Role, forStations(c.Stations))
	_, err = fmt.Fprintln(s.out, secret)
	return err
}

func forStations(stations []string) string {
	if len(stations) == 0 {
		return ""
	}
	return " for " + strings.Join(stations, ", ")
}

// TokenListCmd lists tokens.
type TokenListCmd struct {
	tokenPlace `embed:""`
	JSON       bool `name:"json" help:"One JSON token a line."`
}

// Help begins with the example.
func (TokenListCmd) Help() string {
	return "Example:  heimdall-collector token list\n\n" + whereTokens
}

// Run is called by the command line.
func (c TokenListCmd) Run(ctx context.Context, s streams) error {
	place, err := c.open(ctx, s.err, "token list")
	if err != nil {
		return err
	}
	defer func() { _ = place.Close() }() // what was done is committed
	tokens, err := place.Tokens(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(s.out)
		for i := range tokens {
			if err := out.Encode(&tokens[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(tokens) == 0 {
		_, err := fmt.Fprintln(s.err, "there is no token yet; `heimdall-collector token add NAME --role admin` makes one")
		return err
	}
	return printTokens(s.out, tokens, time.Now())
}

func printTokens(w io.Writer, tokens []protocol.Token, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "token\trole\tstations\tlast used\tholds")
	for i := range tokens {
		token := &tokens[i]
		used := "never"
		if at, err := protocol.ParseTime(token.LastUsed); err == nil {
			used = at.Format("2006-01-02 15h")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", token.Name, token.Role, cmp.Or(strings.Join(token.Stations, ","), "all"), used, holds(token, now))
	}
	return t.Flush()
}

// holds tells how long a token does.
func holds(t *protocol.Token, now time.Time) string {
	if at, err := protocol.ParseTime(t.Revoked); err == nil {
		return "revoked " + at.Format(time.DateOnly)
	}
	at, err := protocol.ParseTime(t.Expires)
	switch {
	case err != nil:
		return "until it is revoked"
	case !at.After(now):
		return "expired " + at.Format(time.DateOnly)
	}
	return "until " + at.Format(time.DateOnly)
}

// TokenRevokeCmd ends a token.
type TokenRevokeCmd struct {
	tokenPlace `embed:""`
	Name       string `arg:"" help:"The token, as list names it."`
}

// Help begins with the example.
func (TokenRevokeCmd) Help() string {
	return "Example:  heimdall-collector token revoke club\n\nWhat it is reading ends within seconds. " + whereTokens
}

// Run is called by the command line.
func (c TokenRevokeCmd) Run(ctx context.Context, s streams) error {
	place, err := c.open(ctx, s.err, "token revoke")
	if err != nil {
		return err
	}
	defer func() { _ = place.Close() }() // what was done is committed
	err = place.RevokeToken(ctx, c.Name, protocol.ActorLocal)
	if errors.Is(err, store.ErrNotFound) || gone(err) {
		return fmt.Errorf("%s: there is no such token; `heimdall-collector token list` names them", c.Name)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "token %s is revoked\n", c.Name)
	return err
}
