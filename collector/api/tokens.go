package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// TokenRequest is the body of a new token.
type TokenRequest struct {
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Stations []string `json:"stations,omitempty"` // it is limited to them; absent: to none
	TTL      string   `json:"ttl,omitempty"`      // such as 30d; absent: until it is revoked
}

// MadeToken is the answer: the only one that ever shows the secret.
type MadeToken struct {
	Token  protocol.Token `json:"token"`
	Secret string         `json:"secret"`
}

const tokenPath = "/api/v1/tokens"

func tokenRoutes() []route {
	return []route{
		{
			method: "GET", path: tokenPath, id: "listTokens", tag: "accounts", summary: "Who may ask here: tokens, by name, without their secrets", role: protocol.RoleAdmin,
			detail:  "Also those that were revoked or have expired. " + bulkDetail,
			answer:  content{types: listTypes(), schema: "TokenList", example: list([]protocol.Token{exampleToken()}, "")},
			listing: &listing{columns: goColumns(reflect.TypeFor[protocol.Token]()), pages: tokenPages},
		},
		{
			method: "POST", path: tokenPath, id: "addToken", tag: "accounts", summary: "Makes a token", role: protocol.RoleAdmin,
			detail: "A viewer looks, an operator also orders and cancels acquisitions, an admin also looks after stations and accounts. A token with stations sees and " +
				"orders no others. The secret is in this answer and never again.",
			body:   &content{types: []string{jsonType}, schema: "TokenRequest", example: exampleTokenRequest()},
			answer: content{types: []string{jsonType}, schema: "MadeToken", example: exampleMadeToken()}, status: http.StatusCreated,
			problems: []problemKind{badBody, badField, tooSlow, tooLarge, wrongType, crossOrigin}, serve: (*server).addToken,
		},
		{
			method: "DELETE", path: tokenPath + "/{id}", id: "revokeToken", tag: "accounts", summary: "Ends a token, by its name", role: protocol.RoleAdmin,
			detail: "It is refused from now on, and what it is reading ends within seconds. It stays in the list, and its name is not given again.",
			answer: content{text: "Nothing"}, status: http.StatusNoContent, problems: []problemKind{notFound, crossOrigin}, serve: (*server).revokeToken,
		},
		auditRoute(),
	}
}

func tokenPages(s *server, _ *query) pager {
	return func(ctx context.Context, _ int, _ string) ([]json.RawMessage, string, error) {
		tokens, err := s.Tokens.Tokens(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("list tokens: %w", err)
		}
		items, err := itemsOf(tokens, func(t *protocol.Token) any { return t })
		return items, "", err
	}
}

func (s *server) addToken(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	o, err := parseObject(body, `{"name": "club", "role": "viewer"}`)
	if err != nil {
		return err
	}
	token := o.token(time.Now())
	if len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	secret, err := s.Tokens.AddToken(r.Context(), token, callerOf(r.Context()).name)
	if err != nil {
		problem, own := problemOf(err, badField)
		if own {
			return fmt.Errorf("add token: %w", err)
		}
		return problem
	}
	all, err := s.Tokens.Tokens(r.Context())
	if err != nil {
		return fmt.Errorf("list tokens: %w", err)
	}
	for _, t := range all {
		if t.Name == token.Name {
			token = t
		}
	}
	return send(w, r, http.StatusCreated, MadeToken{Token: token, Secret: secret})
}

// token reads the body of a new token.
func (o *object) token(now time.Time) protocol.Token {
	t := protocol.Token{}
	o.required("name", "write 1 to 32 of a-z, 0-9 and -")
	o.required("role", "write viewer, operator or admin")
	o.read("name", &t.Name, "write 1 to 32 of a-z, 0-9 and -")
	o.read("role", &t.Role, "write viewer, operator or admin")
	t.Stations = o.stations("stations")
	if value, given := o.take("ttl"); given {
		var d configs.Duration
		text, _ := quantityText(value)
		if err := d.UnmarshalText([]byte(text)); err != nil || d <= 0 || d > mostTTL {
			o.fault("ttl", string(value), ttlAdvice)
		} else {
			t.Expires = protocol.FormatTime(now.Add(time.Duration(d)))
		}
	}
	o.refuseOthers("name, role, stations, ttl")
	return t
}

const (
	mostTTL   = configs.Duration(100 * 365 * 24 * time.Hour)
	ttlAdvice = "write how long it holds, such as \"30d\" or \"1y\", or leave it out"
)

func (s *server) revokeToken(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("id")
	if printable(name) != name {
		return notFound.with("no token can have this name", fieldError("id", name, "`heimdall-collector token list` lists them"))
	}
	if err := s.Tokens.RevokeToken(r.Context(), name, callerOf(r.Context()).name); err != nil {
		return absent(fmt.Errorf("revoke token: %w", err), "token", name)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func exampleToken() protocol.Token {
	return protocol.Token{
		Name: "club", Role: protocol.RoleOperator, Stations: []string{"giaveno", "torino"}, Created: "2026-11-01T09:30:00.000000000Z",
		LastUsed: "2026-11-24T02:00:00.000000000Z", Expires: "2027-11-01T09:30:00.000000000Z",
	}
}

func exampleTokenRequest() TokenRequest {
	return TokenRequest{Name: "club", Role: string(protocol.RoleOperator), Stations: []string{"giaveno", "torino"}, TTL: "365d"}
}

func exampleMadeToken() MadeToken {
	made := MadeToken{Token: exampleToken(), Secret: "hdt_…"}
	made.Token.LastUsed = ""
	return made
}

func exampleAuditEntry() protocol.AuditEntry {
	return protocol.AuditEntry{
		Time: exampleTime, Actor: "club", Action: actAcquire, Subject: exampleAcquisition,
		Detail: json.RawMessage(`{"address":"192.0.2.7","duration_s":5,"frequency_hz":145500000,"iq":true,"stations":["giaveno","torino"]}`),
	}
}
