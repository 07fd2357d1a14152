package accounts

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// Topics of Mosquitto's dynamic-security plug-in: requests go to the first, and answers come on the second to all who may hear them.
const (
	DynsecTopic   = "$CONTROL/dynamic-security/v1"
	DynsecAnswers = DynsecTopic + "/response"
)

// Names of our roles in the plug-in. What it substitutes for %u differs between versions, so each station has a role of its own.
const (
	rolePrefix        = "heimdall-"
	stationRolePrefix = rolePrefix + "station-"
	subscriberRole    = rolePrefix + "subscriber"
	collectorRole     = rolePrefix + "collector"
	clearPrefix       = "heimdall.clear." // also the name of an account, which with its dots is no station's
)

const (
	pageLength  = 50  // of a list: a verbose role has some 2 KiB, and a message should stay well below 512 KiB
	batchLength = 100 // commands of a request
)

// Ask sends a request to the plug-in and gives the answer that is for it.
type Ask func(ctx context.Context, request []byte, mine func(answer []byte) bool) ([]byte, error)

// Dynsec keeps accounts in Mosquitto's dynamic-security plug-in.
//
// A revoked account is deleted there, not disabled: Mosquitto asks the plug-in for no password where a certificate says who somebody
// is (use_identity_as_username), so that only a client that is not known, and so has no rights, is shut out either way. Deleting ends
// its sessions within a second, as disabling does.
type Dynsec struct {
	rules Rules
	own   string // the account of this collector
	ask   Ask
	log   *slog.Logger
}

// NewDynsec makes a backend that speaks for the account own, which has the plug-in's role admin.
func NewDynsec(rules Rules, own string, ask Ask, log *slog.Logger) *Dynsec {
	return &Dynsec{rules: rules, own: own, ask: ask, log: log}
}

// command is one command to the plug-in; what is empty is left out.
type command struct {
	Command     string      `json:"command"`
	Correlation string      `json:"correlationData"`
	Username    string      `json:"username,omitempty"`
	Password    string      `json:"password,omitempty"`
	TextName    string      `json:"textname,omitempty"`
	Rolename    string      `json:"rolename,omitempty"`
	ACLs        []dynsecACL `json:"acls,omitempty"`
	Verbose     bool        `json:"verbose,omitempty"`
	Count       int         `json:"count,omitempty"`
	Offset      int         `json:"offset,omitempty"`
}

// reply is the answer to one command.
type reply struct {
	Command     string `json:"command"`
	Correlation string `json:"correlationData"`
	Error       string `json:"error"`
	Data        struct {
		Client  *dynsecClient  `json:"client"`
		Clients []dynsecClient `json:"clients"`
		Role    *dynsecRole    `json:"role"`
		Roles   []dynsecRole   `json:"roles"`
		ACLs    []dynsecACL    `json:"acls"`
	} `json:"data"`
}

type dynsecClient struct {
	Username string       `json:"username"`
	Roles    []dynsecRole `json:"roles"`
	Disabled bool         `json:"disabled"`
}

type dynsecRole struct {
	Rolename string      `json:"rolename"`
	ACLs     []dynsecACL `json:"acls,omitempty"`
}

type dynsecACL struct {
	Type  string `json:"acltype"`
	Topic string `json:"topic,omitempty"`
	Allow bool   `json:"allow"`
}

// aclsOf is the plug-in's form of rights. A subscription is judged by itself and again with each message that it would bring.
func aclsOf(list []right) []dynsecACL {
	var acls []dynsecACL
	for _, r := range list {
		types := []string{"subscribePattern", "publishClientReceive", "unsubscribePattern"}
		if r.publish {
			types = []string{"publishClientSend"}
		}
		for _, t := range types {
			acls = append(acls, dynsecACL{Type: t, Topic: r.filter, Allow: true})
		}
	}
	return acls
}

// nothingByDefault refuses what no role allows.
func nothingByDefault() []dynsecACL {
	var acls []dynsecACL
	for _, t := range []string{"publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"} {
		acls = append(acls, dynsecACL{Type: t})
	}
	return acls
}

func sameACLs(a, b []dynsecACL) bool {
	order := func(x, y dynsecACL) int { return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Topic, y.Topic)) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}

// roleOf is the role that an account should have.
func (d *Dynsec) roleOf(a protocol.Account) dynsecRole {
	name := subscriberRole
	if a.Kind == protocol.AccountStation {
		name = stationRolePrefix + a.Username
	}
	return dynsecRole{Rolename: name, ACLs: aclsOf(d.rules.of(a))}
}

// found is what the plug-in has.
type found struct {
	clients map[string]dynsecClient
	roles   map[string]dynsecRole
	open    bool // it allows something by default
}

// mendRole are the commands that make a role as it should be.
func mendRole(f found, want dynsecRole) []command {
	switch has, known := f.roles[want.Rolename]; {
	case !known:
		return []command{{Command: "createRole", Rolename: want.Rolename, ACLs: want.ACLs}}
	case !sameACLs(has.ACLs, want.ACLs):
		return []command{{Command: "modifyRole", Rolename: want.Rolename, ACLs: want.ACLs}}
	}
	return nil
}

// mendClient are the commands that make an account as it should be. One that is so already gets none: each would end its sessions.
func (d *Dynsec) mendClient(f found, a protocol.Account, password string) []command {
	role := d.roleOf(a)
	has, known := f.clients[a.Username]
	if !known {
		// Given with createClient, a role does not know who has it, and deleting it is the end of Mosquitto 2.0.
		return []command{
			{Command: "createClient", Username: a.Username, Password: password, TextName: "Heimdall " + string(a.Kind)},
			{Command: "addClientRole", Username: a.Username, Rolename: role.Rolename},
		}
	}
	var list []command
	if password != "" {
		list = append(list, command{Command: "setClientPassword", Username: a.Username, Password: password})
	}
	if !has.hasRole(role.Rolename) {
		list = append(list, command{Command: "addClientRole", Username: a.Username, Rolename: role.Rolename})
	}
	if has.Disabled {
		list = append(list, command{Command: "enableClient", Username: a.Username})
	}
	return list
}

func (c dynsecClient) hasRole(name string) bool {
	return slices.ContainsFunc(c.Roles, func(r dynsecRole) bool { return r.Rolename == name })
}

// ours tells whether an account of the plug-in is one that a Keeper made.
func (c dynsecClient) ours() bool {
	return slices.ContainsFunc(c.Roles, func(r dynsecRole) bool {
		return r.Rolename == subscriberRole || strings.HasPrefix(r.Rolename, stationRolePrefix)
	})
}

// Repair makes the plug-in agree with the list, and lets this collector do its own work. Accounts that are not of Heimdall stay as
// they are, but get nothing any more that no role of theirs allows.
func (d *Dynsec) Repair(ctx context.Context, valid []protocol.Account) error {
	f, err := d.look(ctx)
	if err != nil {
		return err
	}
	if _, known := f.clients[d.own]; !known {
		return fmt.Errorf("the broker's plug-in does not know the account %q that this collector uses; give mqtt.username one of the plug-in's with its role admin", d.own)
	}
	commands := d.repairs(f, valid)
	if err := d.send(ctx, commands); err != nil {
		return err
	}
	if len(commands) > 0 {
		d.log.InfoContext(ctx, "the broker's accounts were put right", "commands", len(commands))
	}
	return d.allowItself(ctx, f)
}

// repairs are the commands that make the plug-in agree.
func (d *Dynsec) repairs(f found, valid []protocol.Account) []command {
	var commands []command
	if f.open {
		commands = append(commands, command{Command: "setDefaultACLAccess", ACLs: nothingByDefault()})
	}
	wanted := make(map[string]bool)
	for _, role := range []dynsecRole{{collectorRole, aclsOf(d.rules.collector())}, {subscriberRole, aclsOf(d.rules.subscriber())}} {
		commands = append(commands, mendRole(f, role)...)
	}
	for _, a := range valid {
		wanted[a.Username] = true
		if a.Kind == protocol.AccountStation {
			commands = append(commands, mendRole(f, d.roleOf(a))...)
		}
		if _, known := f.clients[a.Username]; !known && a.Password {
			d.log.Warn("the broker had lost an account with its password: revoke it and add it again for a new one", "username", a.Username)
		}
		commands = append(commands, d.mendClient(f, a, "")...)
	}
	for name, c := range f.clients {
		if c.ours() && !wanted[name] && name != d.own {
			commands = append(commands, command{Command: "deleteClient", Username: name})
		}
	}
	for name := range f.roles {
		if id, of := strings.CutPrefix(name, stationRolePrefix); of && !wanted[id] {
			commands = append(commands, command{Command: "deleteRole", Rolename: name})
		}
	}
	return commands
}

// allowItself gives this collector its role. That ends all of its sessions, this one, too, so an answer may not come.
func (d *Dynsec) allowItself(ctx context.Context, f found) error {
	if f.clients[d.own].hasRole(collectorRole) {
		return nil
	}
	failure := d.send(ctx, []command{{Command: "addClientRole", Username: d.own, Rolename: collectorRole}})
	replies, err := d.request(ctx, []command{{Command: "getClient", Username: d.own}})
	if err != nil {
		return err
	}
	if c := replies[0].Data.Client; c == nil || !c.hasRole(collectorRole) {
		return fmt.Errorf("give this collector its role at the broker: %w", errors.Join(failure, replyError(replies[0])))
	}
	return nil
}

// Set adds an account, or makes it as it should be.
func (d *Dynsec) Set(ctx context.Context, account protocol.Account, password string) error {
	role := d.roleOf(account)
	replies, err := d.request(ctx, []command{{Command: "getClient", Username: account.Username}, {Command: "getRole", Rolename: role.Rolename}})
	if err != nil {
		return err
	}
	f := found{clients: map[string]dynsecClient{}, roles: map[string]dynsecRole{}}
	if c := replies[0].Data.Client; c != nil {
		f.clients[account.Username] = *c
	}
	if r := replies[1].Data.Role; r != nil {
		f.roles[role.Rolename] = *r
	}
	return d.send(ctx, append(mendRole(f, role), d.mendClient(f, account, password)...))
}

// Drop deletes an account and, of a station, its role.
func (d *Dynsec) Drop(ctx context.Context, account protocol.Account) error {
	commands := []command{{Command: "deleteClient", Username: account.Username}}
	if account.Kind == protocol.AccountStation {
		commands = append(commands, command{Command: "deleteRole", Rolename: d.roleOf(account).Rolename})
	}
	return d.send(ctx, commands)
}

// Clear empties what a station retains for Home Assistant, where the collector itself has no right: giving its role one more would end
// its sessions. So an account does that has this right alone, and is there for no longer.
func (d *Dynsec) Clear(ctx context.Context, station string, empty func(ctx context.Context, username, password, topic string) error) error {
	name, password, topic := clearPrefix+station, newPassword(), d.rules.HomeAssistant.Device(station)
	remove := []command{{Command: "deleteClient", Username: name}, {Command: "deleteRole", Rolename: name}}
	add := []command{
		{Command: "createRole", Rolename: name, ACLs: aclsOf(rights(true, topic))},
		{Command: "createClient", Username: name, Password: password, TextName: "Heimdall, for a moment"},
		{Command: "addClientRole", Username: name, Rolename: name},
	}
	err := d.send(ctx, append(slices.Clone(remove), add...)) // an interrupted one may have left it
	if err == nil {
		err = empty(ctx, name, password, topic)
	}
	return errors.Join(err, d.send(context.WithoutCancel(ctx), remove))
}

// Note has nothing to say: changes hold at once.
func (*Dynsec) Note() string { return "" }

// Check tells whether the plug-in answers this collector's account.
func (d *Dynsec) Check(ctx context.Context) error {
	replies, err := d.request(ctx, []command{{Command: "getDefaultACLAccess"}})
	if err != nil {
		return err
	}
	return replyError(replies[0])
}

// look reads all that the plug-in has.
func (d *Dynsec) look(ctx context.Context) (found, error) {
	f := found{clients: map[string]dynsecClient{}, roles: map[string]dynsecRole{}}
	defaults, err := d.request(ctx, []command{{Command: "getDefaultACLAccess"}})
	if err != nil {
		return f, err
	}
	if err := replyError(defaults[0]); err != nil {
		return f, err
	}
	f.open = slices.ContainsFunc(defaults[0].Data.ACLs, func(a dynsecACL) bool { return a.Allow })
	for more, offset := true, 0; more; offset += pageLength {
		replies, err := d.request(ctx, []command{
			{Command: "listClients", Verbose: true, Count: pageLength, Offset: offset},
			{Command: "listRoles", Verbose: true, Count: pageLength, Offset: offset},
		})
		if err != nil {
			return f, err
		}
		if err := errors.Join(replyError(replies[0]), replyError(replies[1])); err != nil {
			return f, err
		}
		for _, c := range replies[0].Data.Clients {
			f.clients[c.Username] = c
		}
		for _, r := range replies[1].Data.Roles {
			f.roles[r.Rolename] = r
		}
		more = len(replies[0].Data.Clients) == pageLength || len(replies[1].Data.Roles) == pageLength
	}
	return f, nil
}

// send carries commands out, and fails with what the plug-in says of the first one that it could not carry out.
func (d *Dynsec) send(ctx context.Context, commands []command) error {
	for batch := range slices.Chunk(commands, batchLength) {
		replies, err := d.request(ctx, batch)
		if err != nil {
			return err
		}
		for _, r := range replies {
			if err := replyError(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// replyError is what the plug-in says against a command. That what is to go is not there is no error.
func replyError(r reply) error {
	gone := r.Command == "deleteClient" && r.Error == "Client not found" || r.Command == "deleteRole" && r.Error == "Role not found"
	if r.Error == "" || gone {
		return nil
	}
	return fmt.Errorf("the broker's plug-in answers %s with %q", r.Command, r.Error)
}

// request sends commands and gives the replies, one each in their order.
func (d *Dynsec) request(ctx context.Context, commands []command) ([]reply, error) {
	id := rand.Text()
	for i := range commands {
		commands[i].Correlation = id
	}
	text, err := json.Marshal(map[string]any{"commands": commands})
	if err != nil {
		return nil, fmt.Errorf("write a request to the broker's plug-in: %w", err)
	}
	var replies []reply
	answer, err := d.ask(ctx, text, func(answer []byte) bool {
		replies, ok := readReplies(answer)
		return ok && len(replies) == len(commands) && replies[0].Correlation == id
	})
	if err == nil {
		replies, _ = readReplies(answer)
	}
	return replies, err
}

func readReplies(answer []byte) ([]reply, bool) {
	var a struct {
		Responses []reply `json:"responses"`
	}
	err := json.Unmarshal(answer, &a)
	return a.Responses, err == nil && len(a.Responses) > 0
}
