package accounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Store keeps the accounts, and notes in the audit who changed one. An account that is not there is an error that wraps
// [fs.ErrNotExist].
type Store interface {
	// BrokerAccounts lists stations and subscribers by username, also revoked ones.
	BrokerAccounts(ctx context.Context) ([]protocol.Account, error)
	BrokerAccount(ctx context.Context, username string) (*protocol.Account, error)
	// PutAccount adds an account, or makes one of the same kind valid again, with the given hash.
	PutAccount(ctx context.Context, account protocol.Account, actor string) error
	// RevokeAccount makes an account invalid and forgets its hash; one that is revoked already stays as it is.
	RevokeAccount(ctx context.Context, username, actor string) error
	RemoveAccount(ctx context.Context, username, actor string) error
}

// Backend is a broker's own knowledge of accounts.
type Backend interface {
	// Repair makes it agree with the list, which has all valid accounts.
	Repair(ctx context.Context, valid []protocol.Account) error
	// Set adds an account, or makes it as it should be. With a password it logs in by that from now on.
	Set(ctx context.Context, account protocol.Account, password string) error
	// Drop takes away an account, which may be unknown already, and ends its sessions.
	Drop(ctx context.Context, account protocol.Account) error
	// Note says what is left for people to do after a change; empty: nothing.
	Note() string
}

// errNone says that the broker lets everybody in.
var errNone = protocol.FieldErrors{{
	Field: "mqtt.accounts", Value: "none",
	Message: "this collector's broker keeps no accounts: set the key to embedded (without mqtt.url), dynsec or files, and start the collector again",
}}

// BrokerError says that the broker could not be told of a change.
type BrokerError struct {
	Username string
	Revoked  bool // it is so in the table, and the broker is told as soon as it answers
	Err      error
}

func (e *BrokerError) Error() string {
	if e.Revoked {
		return fmt.Sprintf("account %s is revoked here, but its sessions go on until the broker can be told: %v", e.Username, e.Err)
	}
	return fmt.Sprintf("tell the broker of account %s: %v", e.Username, e.Err)
}

// Unwrap is why.
func (e *BrokerError) Unwrap() error { return e.Err }

// BrokerTrouble says the same, for those who do not import this package.
func (e *BrokerError) BrokerTrouble() string { return e.Error() }

// repairTimeout bounds one attempt to make the broker agree, and repairPause is the pause after one that failed.
const (
	repairTimeout = time.Minute
	repairPause   = 10 * time.Second
)

// Keeper adds and revokes accounts.
type Keeper struct {
	store   Store
	backend Backend // nil: everybody may do everything
	log     *slog.Logger
	own     string        // the account of this collector; nobody else gets it
	changed chan struct{} // capacity 1: the broker may not agree any more; when it is full that is known

	mu sync.Mutex // guards the agreement of table and broker: one change at a time
}

// New makes a keeper for a collector whose own account is own; Run keeps the broker in agreement. A nil backend is a broker without
// accounts: stations are written down all the same, and subscribers refused.
func New(store Store, backend Backend, own string, log *slog.Logger) *Keeper {
	return &Keeper{store: store, backend: backend, own: own, log: log, changed: make(chan struct{}, 1)}
}

// Note says what is left for people to do after a change; empty: nothing.
func (k *Keeper) Note() string {
	if k.backend == nil {
		return ""
	}
	return k.backend.Note()
}

// List gives all accounts by username, also revoked ones.
func (k *Keeper) List(ctx context.Context) ([]protocol.Account, error) {
	return k.store.BrokerAccounts(ctx)
}

// EnsureStation makes sure that a station can use the broker by its certificate. One that has a password keeps it. Undo, which is
// there beside an error, too, makes the account as it was, for where nothing came of the station.
func (k *Keeper) EnsureStation(ctx context.Context, id, actor string) (undo func(context.Context) error, err error) {
	undo = func(context.Context) error { return nil }
	if err := protocol.ValidStation(id); err != nil {
		return undo, protocol.FieldErrors{{Field: "id", Value: id, Message: err.Error()}}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	account := protocol.Account{Username: id, Kind: protocol.AccountStation}
	known, err := k.known(ctx, account)
	if err != nil {
		return undo, err
	}
	if known != nil && known.Revoked == "" {
		account.Hash = known.Hash
		return undo, k.set(ctx, account, "")
	}
	if err := k.store.PutAccount(ctx, account, actor); err != nil {
		return undo, err
	}
	take := k.store.RemoveAccount
	if known != nil {
		take = k.store.RevokeAccount
	}
	undo = func(ctx context.Context) error { return k.end(ctx, account, actor, take) }
	return undo, k.set(ctx, account, "")
}

// AddStation makes an account with a password for a station that has none, for stations without certificates.
func (k *Keeper) AddStation(ctx context.Context, id, actor string) (password string, err error) {
	if err := protocol.ValidStation(id); err != nil {
		return "", protocol.FieldErrors{{Field: "id", Value: id, Message: err.Error()}}
	}
	return k.add(ctx, protocol.Account{Username: id, Kind: protocol.AccountStation}, "id", id, actor)
}

// AddSubscriber makes an account that reads what all stations publish of themselves.
func (k *Keeper) AddSubscriber(ctx context.Context, name, actor string) (password string, err error) {
	if err := protocol.ValidSubscriber(name); err != nil {
		return "", protocol.FieldErrors{{Field: "name", Value: name, Message: err.Error()}}
	}
	return k.add(ctx, protocol.Account{Username: protocol.SubscriberUsername(name), Kind: protocol.AccountSubscriber}, "name", name, actor)
}

// add makes an account with a password. A broker that cannot be told leaves no account.
func (k *Keeper) add(ctx context.Context, account protocol.Account, field, name, actor string) (password string, err error) {
	if k.backend == nil {
		return "", errNone
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, err := k.known(ctx, account)
	if err != nil {
		return "", err
	}
	if known != nil && known.Revoked == "" {
		return "", protocol.FieldErrors{{Field: field, Value: name, Message: "there is such an account; revoke it first, or choose another name"}}
	}
	password = newPassword()
	if account.Hash, err = hashPassword(password); err != nil {
		return "", err
	}
	if err := k.store.PutAccount(ctx, account, actor); err != nil {
		return "", err
	}
	if err := k.set(ctx, account, password); err != nil {
		return "", errors.Join(err, k.store.RevokeAccount(context.WithoutCancel(ctx), account.Username, actor))
	}
	return password, nil
}

// known is the account of a username; nil when there is none. One of another kind is a fault.
func (k *Keeper) known(ctx context.Context, account protocol.Account) (*protocol.Account, error) {
	found, err := k.store.BrokerAccount(ctx, account.Username)
	switch {
	case account.Username == k.own:
		return nil, protocol.FieldErrors{{Field: "id", Value: account.Username, Message: "it is the collector's own account; choose another name"}}
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case found.Kind == account.Kind:
		return found, nil
	}
	field, value := "id", account.Username
	if account.Kind == protocol.AccountSubscriber {
		field, value = "name", protocol.SubscriberName(value)
	}
	return nil, protocol.FieldErrors{{Field: field, Value: value, Message: fmt.Sprintf("%s is the account of a %s; choose another name", account.Username, found.Kind)}}
}

// DisableStation ends a station's sessions and its account, until EnsureStation or AddStation.
func (k *Keeper) DisableStation(ctx context.Context, id, actor string) error {
	return k.end(ctx, protocol.Account{Username: id, Kind: protocol.AccountStation}, actor, k.store.RevokeAccount)
}

// RemoveStation does the same, and forgets the account.
func (k *Keeper) RemoveStation(ctx context.Context, id, actor string) error {
	return k.end(ctx, protocol.Account{Username: id, Kind: protocol.AccountStation}, actor, k.store.RemoveAccount)
}

// RevokeSubscriber ends a subscriber's sessions and its account.
func (k *Keeper) RevokeSubscriber(ctx context.Context, name, actor string) error {
	return k.end(ctx, protocol.Account{Username: protocol.SubscriberUsername(name), Kind: protocol.AccountSubscriber}, actor, k.store.RevokeAccount)
}

// end takes an account out of the table, then away from the broker. A broker that cannot be told now is told as soon as it
// answers again.
func (k *Keeper) end(ctx context.Context, account protocol.Account, actor string, take func(ctx context.Context, username, actor string) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, err := k.known(ctx, account)
	if err == nil && known == nil {
		err = fmt.Errorf("account %.40q: %w", account.Username, fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if err := take(ctx, account.Username, actor); err != nil || k.backend == nil {
		return err
	}
	if err := k.backend.Drop(ctx, account); err != nil {
		k.Wake()
		return &BrokerError{Username: account.Username, Revoked: true, Err: err}
	}
	return nil
}

func (k *Keeper) set(ctx context.Context, account protocol.Account, password string) error {
	if k.backend == nil {
		return nil
	}
	if err := k.backend.Set(ctx, account, password); err != nil {
		k.Wake()
		return &BrokerError{Username: account.Username, Err: err}
	}
	return nil
}

// Wake has Run look whether the broker agrees, as after a new connection to it.
func (k *Keeper) Wake() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Repair makes the broker agree with the table.
func (k *Keeper) Repair(ctx context.Context) error {
	if k.backend == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	all, err := k.store.BrokerAccounts(ctx)
	if err != nil {
		return err
	}
	valid := all[:0]
	for _, a := range all {
		if a.Revoked == "" {
			valid = append(valid, a)
		}
	}
	return k.backend.Repair(ctx, valid)
}

// Run makes the broker agree each time Wake asks for it, and again after a pause when it could not be told, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.changed:
		}
		for told := false; ; told = true {
			err := k.Repair(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if !told {
				k.log.WarnContext(ctx, "cannot tell the broker its accounts, trying again", "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(repairPause):
			}
		}
	}
}
