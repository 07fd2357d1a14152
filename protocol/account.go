package protocol

import (
	"errors"
	"strings"
)

// AccountKind is what an account at the broker is for.
type AccountKind string

// The kinds of account that can be added and revoked.
const (
	AccountStation    AccountKind = "station"
	AccountSubscriber AccountKind = "subscriber"
)

// Account is who may use the broker. Tokens of the REST interface are no accounts of the broker.
type Account struct {
	Username string      `json:"username"` // a station's id, or sub- and a subscriber's name
	Kind     AccountKind `json:"kind"`
	Password bool        `json:"password"` // it logs in by a password, too; else by its certificate alone
	Hash     string      `json:"-"`        // of the password, in Mosquitto's form; empty: it has none
	Created  string      `json:"created"`
	Revoked  string      `json:"revoked,omitempty"`
}

// NewAccount is an account with its only password, which is shown this once.
type NewAccount struct {
	Username string `json:"username"`
	Secret   string `json:"password"`
	URL      string `json:"url"`            // of the broker
	CA       string `json:"ca,omitempty"`   // PEM of the authority that the broker's certificate comes from; absent: a known one, or none
	Note     string `json:"note,omitempty"` // what is left to do before the broker knows the account
}

// RevokedAccount is an account that has ended.
type RevokedAccount struct {
	Username string `json:"username"`
	Note     string `json:"note,omitempty"` // what is left to do before the broker knows
}

// CollectorUsername is the account of collectors at a broker. No station and no subscriber can have it.
const CollectorUsername = "collector"

// What client ids begin with; the id of the station or collector follows.
const (
	AgentClientPrefix     = "heimdall-agent-"
	CollectorClientPrefix = "heimdall-collector-"
)

const subscriberPrefix = "sub-"

// SubscriberUsername is the account of a subscriber at the broker.
func SubscriberUsername(name string) string { return subscriberPrefix + name }

// SubscriberName is the name in the account of a subscriber.
func SubscriberName(username string) string { return strings.TrimPrefix(username, subscriberPrefix) }

// ValidSubscriber is the error of a name that no subscriber can have. The account's name is then one that a station can have,
// so that all names follow one rule.
func ValidSubscriber(name string) error {
	if !slug(name) || len(subscriberPrefix)+len(name) > 32 {
		return errors.New("want 1 to 28 of a-z, 0-9 and -, not beginning with -")
	}
	return nil
}
