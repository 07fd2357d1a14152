package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// openAccounts makes whatever keeps the broker's accounts.
func (c *Collector) openAccounts(ctx context.Context) error {
	m := &c.cfg.MQTT
	log := c.component("accounts")
	rules := m.rules()
	var backend accounts.Backend
	switch m.accountsKept() {
	case accountsEmbedded:
		door, password, err := accounts.NewEmbedded(rules, c.broker.Sweep)
		if err != nil {
			return err
		}
		c.broker.Restrict(func(v link.Visitor) link.Pass {
			if pass := door.Admit(accounts.Credentials(v)); pass != nil {
				return pass
			}
			return nil
		})
		m.Username, m.Password = protocol.CollectorUsername, configs.Secret(password)
		backend = door
	case accountsDynsec:
		dynsec, err := newDynsec(c.cfg, c.component)
		if err != nil {
			return err
		}
		backend, c.dynsec = dynsec, dynsec
	case accountsFiles:
		if err := os.MkdirAll(m.AccountsFolder, 0o750); err != nil {
			return fmt.Errorf("mqtt.accounts_folder: %w", err)
		}
		folder, err := filepath.Abs(m.AccountsFolder)
		if err != nil {
			return fmt.Errorf("mqtt.accounts_folder: %w", err)
		}
		if m.SharedGroup == DefaultConfig().MQTT.SharedGroup {
			log.WarnContext(ctx, "a broker that reads files lets whoever has an account join any shared subscription, and so hold records up: give mqtt.shared_group a name that nobody guesses")
		}
		backend = accounts.NewFiles(rules, folder, username(*m), string(m.Password))
	}
	c.accounts = accounts.New(c.store, backend, username(*m), log)
	return nil
}

// username is the collector's account at an outside broker; one that logs in by its certificate has that of all collectors.
func username(m MQTTConfig) string {
	if m.Username != "" {
		return m.Username
	}
	return protocol.CollectorUsername
}

// letInTimeout is how long the broker may take before the collector goes on without.
const letInTimeout = 5 * time.Second

// letIn makes the broker agree with the accounts before the collector itself connects. A broker that is not there yet is told once
// there is a session with it.
func (c *Collector) letIn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, letInTimeout)
	defer cancel()
	if err := c.accounts.Repair(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		c.component("accounts").WarnContext(ctx, "cannot tell the broker its accounts yet", "error", err)
		c.accounts.Wake()
	}
}

// brokerAccounts shows the broker's accounts to the API.
type brokerAccounts struct{ *Collector }

// Accounts lists stations and subscribers by username.
func (b brokerAccounts) Accounts(ctx context.Context) ([]protocol.Account, error) {
	return b.accounts.List(ctx)
}

// AddAccount makes an account with a password.
func (b brokerAccounts) AddAccount(ctx context.Context, kind protocol.AccountKind, name, actor string) (*protocol.NewAccount, error) {
	reach := b.enrolmentMQTT()
	made := &protocol.NewAccount{Username: name, URL: reach.URL, CA: reach.CA, Note: b.accounts.Note()}
	var err error
	if kind == protocol.AccountSubscriber {
		made.Username = protocol.SubscriberUsername(name)
		made.Secret, err = b.accounts.AddSubscriber(ctx, name, actor)
	} else {
		made.Secret, err = b.accounts.AddStation(ctx, name, actor)
	}
	if err != nil {
		return nil, err
	}
	return made, nil
}

// RevokeAccount ends a subscriber's account. A station has more than an account.
func (b brokerAccounts) RevokeAccount(ctx context.Context, username, actor string) (*protocol.RevokedAccount, error) {
	name, ok := strings.CutPrefix(username, protocol.SubscriberUsername(""))
	if !ok {
		return nil, protocol.FieldErrors{{Field: "id", Value: username, Message: "want sub- and the name of a subscriber; a station is revoked with `heimdall-collector station revoke`"}}
	}
	if err := b.accounts.RevokeSubscriber(ctx, name, actor); err != nil {
		return nil, err
	}
	return &protocol.RevokedAccount{Username: username, Note: b.accounts.Note()}, nil
}

// DisableStation ends a station that has nothing but its account.
func (b brokerAccounts) DisableStation(ctx context.Context, station, actor string) error {
	if err := b.accounts.DisableStation(ctx, station, actor); err != nil {
		return err
	}
	return sessions{b.Collector}.Cut(ctx, station)
}

// RemoveStation does the same, also where there is no account, and empties what the broker retains of the station.
func (b brokerAccounts) RemoveStation(ctx context.Context, station, actor string) error {
	if _, err := b.store.RevokeStation(ctx, station, "remove", actor, time.Now()); err != nil {
		return err
	}
	if err := b.accounts.RemoveStation(ctx, station, actor); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s := sessions{b.Collector}
	return errors.Join(s.Cut(ctx, station), s.Clear(ctx, station))
}

// newDynsec speaks to the plug-in of the configured broker.
func newDynsec(cfg Config, component func(string) *slog.Logger) (*accounts.Dynsec, error) {
	session, err := brokerConfig(cfg, cfg.MQTT.URL)
	if err != nil {
		return nil, err
	}
	session.Log = component("link")
	ask := func(ctx context.Context, request []byte, mine func([]byte) bool) ([]byte, error) {
		return link.AskBroker(ctx, session, accounts.DynsecTopic, accounts.DynsecAnswers, request, mine)
	}
	return accounts.NewDynsec(cfg.MQTT.rules(), cfg.MQTT.Username, ask, component("accounts")), nil
}
