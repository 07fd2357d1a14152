package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"reflect"

	"github.com/fulgidus/heimdall/protocol"
)

// Accounts are those of the broker. Its errors are like those of [Reader]; where the broker could not be told of a change, the error has
// a method BrokerTrouble, whose text says so.
type Accounts interface {
	Accounts(ctx context.Context) ([]protocol.Account, error)
	AddAccount(ctx context.Context, kind protocol.AccountKind, name, actor string) (*protocol.NewAccount, error)
	RevokeAccount(ctx context.Context, username, actor string) (*protocol.RevokedAccount, error)
	// DisableStation and RemoveStation are for stations that have no certificate; the latter also empties what the broker retains.
	DisableStation(ctx context.Context, station, actor string) error
	RemoveStation(ctx context.Context, station, actor string) error
}

// AccountRequest is the body of a new account.
type AccountRequest struct {
	Kind string `json:"kind"` // station or subscriber
	Name string `json:"name"` // a station's id, or a subscriber's name
}

const accountPath = "/api/v1/accounts"

func accountRoutes() []route {
	return []route{
		{
			method: "GET", path: accountPath, id: "listAccounts", tag: "accounts", summary: "Who may use the broker: stations and subscribers, by username", role: protocol.RoleAdmin,
			detail:  "Also those that were revoked. " + bulkDetail,
			answer:  content{types: listTypes(), schema: "AccountList", example: list([]protocol.Account{exampleAccount()}, "")},
			listing: &listing{columns: goColumns(reflect.TypeFor[protocol.Account]()), pages: accountPages},
		},
		{
			method: "POST", path: accountPath, id: "addAccount", tag: "accounts", summary: "Makes an account at the broker, with a password", role: protocol.RoleAdmin,
			detail: "A subscriber reads status, info, state and the JSON mirror of all stations, and writes nothing. A station with a password is for agents that do not enrol. The password " +
				"is in this answer and never again; note says what is left to do before the broker knows the account.",
			body:   &content{types: []string{jsonType}, schema: "AccountRequest", example: AccountRequest{Kind: string(protocol.AccountSubscriber), Name: "grafana-home"}},
			answer: content{types: []string{jsonType}, schema: "NewAccount", example: exampleNewAccount()}, status: http.StatusCreated,
			problems: []problemKind{badBody, badField, tooSlow, tooLarge, wrongType, crossOrigin}, serve: (*server).addAccount,
		},
		{
			method: "DELETE", path: accountPath + "/{id}", id: "revokeAccount", tag: "accounts", summary: "Ends a subscriber's account, by its username", role: protocol.RoleAdmin,
			detail: "Its sessions end within seconds; at a broker that reads its accounts from files, once it has read them again, which note says. It stays in the list.",
			answer: content{types: []string{jsonType}, schema: "RevokedAccount", example: protocol.RevokedAccount{Username: "sub-grafana-home"}}, problems: []problemKind{notFound, badField, crossOrigin}, serve: (*server).revokeAccount,
		},
	}
}

func accountPages(s *server, _ *query) pager {
	return func(ctx context.Context, _ int, _ string) ([]json.RawMessage, string, error) {
		accounts, err := s.Accounts.Accounts(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("list accounts: %w", err)
		}
		items, err := itemsOf(accounts, func(a *protocol.Account) any { return a })
		return items, "", err
	}
}

func (s *server) addAccount(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	o, err := parseObject(body, `{"kind": "subscriber", "name": "grafana-home"}`)
	if err != nil {
		return err
	}
	var kind, name string
	const kindAdvice, nameAdvice = "write station or subscriber", "write a station's id, or 1 to 28 of a-z, 0-9 and -"
	o.required("kind", kindAdvice)
	o.required("name", nameAdvice)
	o.read("kind", &kind, kindAdvice)
	o.read("name", &name, nameAdvice)
	o.refuseOthers("kind, name")
	known := kind == string(protocol.AccountStation) || kind == string(protocol.AccountSubscriber)
	if !known && len(o.faults) == 0 {
		o.faults = append(o.faults, fieldError("kind", kind, kindAdvice))
	}
	if len(o.faults) > 0 {
		return badField.faulty(o.faults)
	}
	made, err := s.Accounts.AddAccount(r.Context(), protocol.AccountKind(kind), name, callerOf(r.Context()).name)
	if err != nil {
		return accountProblem(fmt.Errorf("add account: %w", err))
	}
	return send(w, r, http.StatusCreated, made)
}

func (s *server) revokeAccount(w http.ResponseWriter, r *http.Request) error {
	username := r.PathValue("id")
	if printable(username) != username {
		return notFound.with("no account can have this name", fieldError("id", username, "`heimdall-collector subscriber list` lists them"))
	}
	revoked, err := s.Accounts.RevokeAccount(r.Context(), username, callerOf(r.Context()).name)
	if err != nil {
		return absent(accountProblem(fmt.Errorf("revoke account: %w", err)), "account", username)
	}
	return send(w, r, http.StatusOK, revoked)
}

// accountProblem tells the client what is wrong with its request.
func accountProblem(err error) error {
	if problem, own := problemOf(err, badField); !own && problem.Type != "/docs#"+notFound.Name {
		return problem
	}
	return err
}

// withoutAccount turns the error of a station that has no account into a problem that says so.
func withoutAccount(err error, id string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notFound.with("station "+id+" has no account", fieldError("id", id, "no account of this collector's broker is of this id, so there is nothing to take away"))
	}
	return err
}

// endAccount ends a station that has nothing but its account; missing says of one that is not there what is missing.
func (s *server) endAccount(w http.ResponseWriter, r *http.Request, end func(ctx context.Context, station, actor string) error, missing func(err error, id string) error) error {
	station := r.PathValue("id")
	if protocol.ValidStation(station) != nil {
		return notFound.with("no station can have this id", fieldError("id", station, stationAdvice))
	}
	if err := end(r.Context(), station, callerOf(r.Context()).name); err != nil {
		return missing(accountProblem(fmt.Errorf("revoke a station: %w", err)), station)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func exampleAccount() protocol.Account {
	return protocol.Account{Username: "sub-grafana-home", Kind: protocol.AccountSubscriber, Password: true, Created: "2026-11-01T09:30:00.000000000Z"}
}

func exampleNewAccount() protocol.NewAccount {
	return protocol.NewAccount{Username: "sub-grafana-home", Secret: "8RQ…", URL: "mqtts://mq.lan:8883", CA: "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"}
}
