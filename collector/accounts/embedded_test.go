package accounts_test

import (
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/protocol"
)

func TestEmbedded_LetsInWhoIsWhoTheySay(t *testing.T) {
	swept := 0
	e, password, err := accounts.NewEmbedded(accounts.Rules{}, func() { swept++ })
	if err != nil {
		t.Fatal(err)
	}
	station := protocol.Account{Username: "torino", Kind: protocol.AccountStation}
	reader := protocol.Account{Username: "sub-grafana", Kind: protocol.AccountSubscriber}
	if err := e.Repair(t.Context(), []protocol.Account{station, reader}); err != nil {
		t.Fatal(err)
	}
	collector := accounts.Credentials{ClientID: "heimdall-collector-main", Username: "collector", Password: password}
	certified := accounts.Credentials{ClientID: "heimdall-agent-torino", CommonName: "torino"}
	for name, c := range map[string]struct {
		accounts.Credentials
		want bool
	}{
		"collector":                                   {collector, true},
		"collector with a wrong password":             {accounts.Credentials{Username: "collector", Password: "x"}, false},
		"collector by a certificate":                  {accounts.Credentials{CommonName: "collector"}, true},
		"station by its certificate":                  {certified, true},
		"station by its certificate and name":         {accounts.Credentials{Username: "torino", CommonName: "torino"}, true},
		"station with another's certificate":          {accounts.Credentials{Username: "torino", CommonName: "genova"}, false},
		"station without a password":                  {accounts.Credentials{Username: "torino"}, false},
		"station with another's client id":            {accounts.Credentials{ClientID: "heimdall-agent-genova", CommonName: "torino"}, false},
		"station with the collector's client id":      {accounts.Credentials{ClientID: "heimdall-collector-main", CommonName: "torino"}, false},
		"subscriber by a certificate":                 {accounts.Credentials{CommonName: "sub-grafana"}, false},
		"nobody":                                      {accounts.Credentials{}, false},
		"somebody unknown":                            {accounts.Credentials{Username: "milano", Password: "x"}, false},
		"somebody unknown with a certificate of ours": {accounts.Credentials{CommonName: "milano"}, false},
	} {
		if pass := e.Admit(c.Credentials); (pass != nil) != c.want {
			t.Errorf("%s: let in %t, want %t", name, pass != nil, c.want)
		}
	}

	pass := e.Admit(certified)
	if err := e.Repair(t.Context(), []protocol.Account{station}); err != nil || !pass.Valid() || e.Admit(certified) != pass {
		t.Errorf("%v: the session of a station that is as it was does not go on", err)
	}
	before := swept
	if err := e.Drop(t.Context(), station); err != nil || pass.Valid() || pass.May(true, "heimdall/v1/torino/status") || swept == before || e.Admit(certified) != nil {
		t.Errorf("%v: a revoked station may go on", err)
	}
}

// Whoever takes a client id ends the session that had it, so nobody takes that of another account.
func TestEmbedded_NobodyTakesAnothersSession(t *testing.T) {
	w := embeddedWorld(t)
	begin := func(username, password, id string) (mqtt.Client, <-chan struct{}, error) {
		t.Helper()
		lost := make(chan struct{})
		c := mqtt.NewClient(w.options(username).SetPassword(password).SetClientID(id).SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
		token := c.Connect()
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		t.Cleanup(func() { c.Disconnect(0) })
		return c, lost, token.Error()
	}
	reader, lost, err := begin("sub-grafana", w.passwords["sub-grafana"], "panel")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][3]string{
		"another account":       {"torino", w.passwords["torino"], "panel"},
		"with a wrong password": {"sub-grafana", "guess", "panel"},
		"nobody":                {"", "", "panel"},
		"as an agent":           {"sub-grafana", w.passwords["sub-grafana"], "heimdall-agent-torino"},
		"as a collector":        {"torino", w.passwords["torino"], "heimdall-collector-main"},
	} {
		if _, _, err := begin(c[0], c[1], c[2]); err == nil {
			t.Errorf("%s is let in", name)
		}
	}
	done(t, reader.Subscribe("heimdall/v1/+/status", 1, nil))
	select {
	case <-lost:
		t.Error("a session was taken")
	default:
	}
	if _, _, err := begin("sub-grafana", w.passwords["sub-grafana"], "panel"); err != nil {
		t.Errorf("the account itself: %v", err)
	}
	select {
	case <-lost:
	case <-time.After(patience):
		t.Error("two sessions of one client id")
	}
}
