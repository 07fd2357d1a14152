package accounts_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// plugin is a Mosquitto with the plug-in, and what was changed at it.
type plugin struct {
	*servers.Broker
	changes []string // requests that do more than look
}

func openPlugin(t *testing.T) *plugin {
	t.Helper()
	return &plugin{Broker: servers.MosquittoWith(t, servers.DynamicSecurity(t, "collector", "secret"))}
}

func (p *plugin) ask(ctx context.Context, request []byte, mine func([]byte) bool) ([]byte, error) {
	if strings.Count(string(request), `"command":"get`)+strings.Count(string(request), `"command":"list`) < strings.Count(string(request), `"command":`) {
		p.changes = append(p.changes, string(request))
	}
	cfg := link.Config{URL: p.URL, Username: "collector", Password: "secret", ID: "main", Log: quiet()}
	return link.AskBroker(ctx, cfg, accounts.DynsecTopic, accounts.DynsecAnswers, request, mine)
}

// byHand carries out a command as an operator would.
func (p *plugin) byHand(t *testing.T, commands string) string {
	t.Helper()
	answer, err := p.ask(t.Context(), []byte(`{"commands":[`+commands+`]}`), func([]byte) bool { return true })
	if err != nil || strings.Contains(string(answer), `"error"`) {
		t.Fatalf("%s: %s, %v", commands, answer, err)
	}
	return string(answer)
}

func TestDynsec_RepairsWhatSomebodyChanged(t *testing.T) {
	p := openPlugin(t)
	db := openStore(t)
	k := accounts.New(db, accounts.NewDynsec(rules(), "collector", p.ask, quiet()), "gatherer", quiet())
	w := &world{broker: p.Addr, keeper: k, passwords: map[string]string{}}
	repair := func() {
		t.Helper()
		if err := k.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 60 { // more than a page of answers
		if err := db.PutAccount(t.Context(), protocol.Account{Username: fmt.Sprintf("hut-%d", n), Kind: protocol.AccountStation}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	repair()
	var err error
	if w.passwords["torino"], err = k.AddStation(t.Context(), "torino", "test"); err != nil {
		t.Fatal(err)
	}
	if w.passwords["sub-grafana"], err = k.AddSubscriber(t.Context(), "grafana", "test"); err != nil {
		t.Fatal(err)
	}
	before := p.byHand(t, `{"command":"listRoles","verbose":true},{"command":"listClients","verbose":true}`)

	station := w.login(t, "torino")
	p.changes = nil
	repair()
	if err := ensure(t, k, "torino"); err != nil {
		t.Fatal(err)
	}
	if len(p.changes) > 0 {
		t.Errorf("all is right, and %d changes are made, such as %s", len(p.changes), p.changes[0])
	}
	select {
	case <-station.lost:
		t.Error("a session ended though nothing changed")
	default:
	}

	p.byHand(t, `{"command":"createClient","username":"operator","password":"x"}`)
	p.byHand(t, `{"command":"disableClient","username":"torino"}`)
	p.byHand(t, `{"command":"removeClientRole","username":"torino","rolename":"heimdall-station-torino"}`)
	p.byHand(t, `{"command":"addRoleACL","rolename":"heimdall-subscriber","acltype":"publishClientSend","topic":"#","allow":true}`)
	p.byHand(t, `{"command":"deleteClient","username":"hut-7"},{"command":"deleteRole","rolename":"heimdall-station-hut-8"}`)
	p.byHand(t, `{"command":"createRole","rolename":"heimdall-station-ghost"},{"command":"createClient","username":"ghost","roles":[{"rolename":"heimdall-station-ghost"}]}`)
	p.byHand(t, `{"command":"setDefaultACLAccess","acls":[{"acltype":"publishClientSend","allow":true},{"acltype":"subscribe","allow":true}]}`)
	p.changes = nil
	repair()
	if len(p.changes) == 0 {
		t.Error("nothing is put right")
	}
	p.byHand(t, `{"command":"getClient","username":"operator"}`)
	p.byHand(t, `{"command":"deleteClient","username":"operator"}`)
	p.changes = nil
	repair()
	if len(p.changes) > 0 {
		t.Errorf("put right, and %d changes are made, such as %s", len(p.changes), p.changes[0])
	}
	if after := p.byHand(t, `{"command":"listRoles","verbose":true},{"command":"listClients","verbose":true}`); after != before {
		t.Errorf("roles and accounts are not as they were (-were +are):\n%s", cmp.Diff(strings.Split(before, "},"), strings.Split(after, "},")))
	}
	w.login(t, "torino")
	if access := p.byHand(t, `{"command":"getDefaultACLAccess"}`); strings.Contains(access, "true") {
		t.Errorf("by default the plug-in allows %s", access)
	}
}

func TestDynsec_SaysWhatIsMissing(t *testing.T) {
	p := openPlugin(t)
	d := accounts.NewDynsec(rules(), "somebody", p.ask, quiet())
	if err := d.Repair(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"somebody"`) || !strings.Contains(err.Error(), "mqtt.username") {
		t.Errorf("an account that the plug-in does not know: %v", err)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
	plain := servers.Mosquitto(t)
	ask := func(ctx context.Context, request []byte, mine func([]byte) bool) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		return link.AskBroker(ctx, link.Config{URL: plain.URL, ID: "main", Log: quiet()}, accounts.DynsecTopic, accounts.DynsecAnswers, request, mine)
	}
	if err := accounts.NewDynsec(rules(), "collector", ask, quiet()).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "not loaded") {
		t.Errorf("a broker without the plug-in: %v", err)
	}
}
