package protocol

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// Role is what a token may do. Each may all that the one before it may.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // looks at all that stations publish, and at recordings
	RoleOperator Role = "operator" // orders and cancels acquisitions, too
	RoleAdmin    Role = "admin"    // looks after stations and accounts, too, and reads the audit
)

// Roles are all, the least first.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin} }

// Known tells whether it is a role at all.
func (r Role) Known() bool { return slices.Contains(Roles(), r) }

// May tells whether who has the role may do what asks for another one.
func (r Role) May(asked Role) bool {
	return r.Known() && asked.Known() && slices.Index(Roles(), r) >= slices.Index(Roles(), asked)
}

// Token is an account of the REST interface, without its secret.
type Token struct {
	Name     string   `json:"name"`
	Role     Role     `json:"role"`
	Stations []string `json:"stations,omitempty"` // it is limited to them; absent: to none
	Created  string   `json:"created"`
	LastUsed string   `json:"last_used,omitempty"` // to the hour; absent: never
	Expires  string   `json:"expires,omitempty"`
	Revoked  string   `json:"revoked,omitempty"`
}

// longestTokenName is as long as a station's id may be.
const longestTokenName = 32

// ValidTokenName is the error of a name that no token can have.
func ValidTokenName(name string) error {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	switch {
	case name == "" || len(name) > longestTokenName || strings.ContainsFunc(name, odd):
		return errors.New("want 1 to 32 of a-z, 0-9 and -")
	case name == ActorLocal:
		return errors.New("local is who acts without a token; choose another name")
	}
	return nil
}

// AuditFilter selects entries of the audit; its zero value takes all, newest first.
type AuditFilter struct {
	Actor, Action string
	From, To      time.Time // To is exclusive
	Limit         int       // 0: 100
	Cursor        string
}

// AuditEntry is what somebody did.
type AuditEntry struct {
	Time    string          `json:"time"`
	Actor   string          `json:"actor"`  // name of a token; local without one
	Action  string          `json:"action"` // acquire, cancel, download, token-add, ...
	Subject string          `json:"subject,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// ActorLocal is who acts on the collector's own machine, without a token.
const ActorLocal = "local"
