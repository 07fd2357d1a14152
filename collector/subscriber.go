package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

// SubscriberCmd looks after those who read what stations publish.
type SubscriberCmd struct {
	Add    SubscriberAddCmd    `cmd:"" help:"Make an account that reads, and print its password once."`
	List   SubscriberListCmd   `cmd:"" help:"Who may read."`
	Revoke SubscriberRevokeCmd `cmd:"" help:"End an account and its sessions."`
}

// Help begins with the example.
func (SubscriberCmd) Help() string {
	return "Example:  heimdall-collector subscriber add grafana-home"
}

// newAccount is what commands that make an account have in common.
type newAccount struct {
	remote `embed:""`
	CA     string `name:"ca" help:"Where to write the certificate of the broker's authority, if it is not a known one." default:"heimdall-ca.pem" placeholder:"FILE"`
	JSON   bool   `name:"json" help:"One JSON object, with the CA in it."`
}

// make makes an account and says how to log in.
func (c newAccount) make(ctx context.Context, s streams, kind protocol.AccountKind, name string) error {
	var made protocol.NewAccount
	if err := c.call(ctx, http.MethodPost, "/api/v1/accounts", api.AccountRequest{Kind: string(kind), Name: name}, &made); err != nil {
		return err
	}
	if made.Note != "" {
		fmt.Fprintln(s.err, made.Note)
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(made)
	}
	ca := ""
	if made.CA != "" {
		if err := writeCA(c.CA, made.CA); err != nil { // the password must be shown all the same
			fmt.Fprintf(s.err, "warning: the CA is not written: %v\n", err)
		} else {
			ca = "  CA in " + beside(c.CA)
		}
	}
	_, err := fmt.Fprintf(s.out, "%s  user %s  password (shown once) %s%s\n", made.URL, made.Username, made.Secret, ca)
	return err
}

// beside is a file's path as it is typed in the folder that it is in.
func beside(path string) string {
	if path == "" || os.IsPathSeparator(path[0]) || path[0] == '.' {
		return path
	}
	return "./" + path
}

// writeCA writes a certificate, unless another one is there.
func writeCA(path, text string) error {
	if was, err := os.ReadFile(path); err == nil {
		if bytes.Equal(was, []byte(text)) {
			return nil
		}
		return fmt.Errorf("%s is there and is another one; name another file with --ca", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644) // it is no secret
}

// SubscriberAddCmd makes a subscriber.
type SubscriberAddCmd struct {
	Name       string `arg:"" help:"1 to 28 of a-z, 0-9 and -. The account at the broker is sub-NAME."`
	newAccount `embed:""`
}

// Help begins with the example.
func (SubscriberAddCmd) Help() string {
	return "Example:  heimdall-collector subscriber add grafana-home\n\nThe account reads status, info, state and the JSON mirror (json/#) of all stations, and what they tell Home Assistant, and writes nothing. Its password is printed now and never again."
}

// Run is called by the command line.
func (c SubscriberAddCmd) Run(ctx context.Context, s streams) error {
	return c.make(ctx, s, protocol.AccountSubscriber, c.Name)
}

// StationAddCmd makes an account for a station without a certificate.
type StationAddCmd struct {
	ID         string `arg:"" help:"The station."`
	newAccount `embed:""`
}

// Help begins with the example.
func (StationAddCmd) Help() string {
	return "Example:  heimdall-collector station add torino\n\nFor a station that does not enrol: its agent logs in with mqtt.username (the id) and mqtt.password. The password is printed now and never again."
}

// Run is called by the command line.
func (c StationAddCmd) Run(ctx context.Context, s streams) error {
	return c.make(ctx, s, protocol.AccountStation, c.ID)
}

// SubscriberListCmd lists subscribers.
type SubscriberListCmd struct {
	remote `embed:""`
	JSON   bool `name:"json" help:"One JSON account a line."`
}

// Help begins with the example.
func (SubscriberListCmd) Help() string {
	return "Example:  heimdall-collector subscriber list"
}

// Run is called by the command line.
func (c SubscriberListCmd) Run(ctx context.Context, s streams) error {
	var list struct{ Items []protocol.Account }
	if err := c.call(ctx, http.MethodGet, "/api/v1/accounts", nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(t, "subscriber\taccount\tcreated\tholds")
	}
	for i := range list.Items {
		a := &list.Items[i]
		if a.Kind != protocol.AccountSubscriber {
			continue
		}
		if c.JSON {
			if err := json.NewEncoder(s.out).Encode(a); err != nil {
				return err
			}
			continue
		}
		holds := "until it is revoked"
		if a.Revoked != "" {
			holds = "revoked " + a.Revoked[:len("2026-11-24")]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", protocol.SubscriberName(a.Username), a.Username, a.Created[:len("2026-11-24")], holds)
	}
	return t.Flush()
}

// SubscriberRevokeCmd ends a subscriber.
type SubscriberRevokeCmd struct {
	Name   string `arg:"" help:"The subscriber, as list names it."`
	remote `embed:""`
}

// Help begins with the example.
func (SubscriberRevokeCmd) Help() string {
	return "Example:  heimdall-collector subscriber revoke grafana-home\n\nIts sessions end within seconds; at a broker that reads its accounts from files, once it has read them again."
}

// Run is called by the command line.
func (c SubscriberRevokeCmd) Run(ctx context.Context, s streams) error {
	var revoked protocol.RevokedAccount
	err := c.call(ctx, http.MethodDelete, "/api/v1/accounts/"+url.PathEscape(protocol.SubscriberUsername(c.Name)), nil, &revoked)
	if gone(err) {
		return fmt.Errorf("%s: there is no such subscriber; `heimdall-collector subscriber list` names them", c.Name)
	}
	if err != nil {
		return err
	}
	if revoked.Note != "" {
		fmt.Fprintln(s.err, revoked.Note)
	}
	_, err = fmt.Fprintf(s.err, "subscriber %s is revoked\n", c.Name)
	return err
}
