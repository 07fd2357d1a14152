package link_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// A trial tells an account that can do the work from one that may only come in, and from none.
func TestTry(t *testing.T) {
	addr, trust := guarded(t)
	account := func(name, password string) link.Config {
		return link.Config{URL: "mqtts://" + addr, Username: name, Password: password, TLS: trust, ID: "main", Topics: protocol.Topics{Prefix: "heimdall"}}
	}
	if trial, err := link.Try(t.Context(), account("collector", "secret")); err != nil || trial.Online || trial.Plugin {
		t.Errorf("the collector's account: %+v, %v", trial, err)
	}
	_, err := link.Try(t.Context(), account("guest", "guest"))
	if !errors.Is(err, link.ErrNoRights) || !strings.Contains(err.Error(), "let it write and read heimdall/v1/#") || link.Refused(err) {
		t.Errorf("an account without rights: %v", err)
	}
	if _, err := link.Try(t.Context(), account("collector", "wrong")); !link.Refused(err) || errors.Is(err, link.ErrNoRights) {
		t.Errorf("a wrong password: %v", err)
	}
	open := servers.Mosquitto(t)
	if trial, err := link.Try(t.Context(), link.Config{URL: open.URL, ID: "main"}); err != nil || trial != (link.Trial{}) {
		t.Errorf("a broker without accounts: %+v, %v", trial, err)
	}
	if _, err := link.Try(t.Context(), link.Config{URL: "http://127.0.0.1", ID: "main"}); err == nil || link.Refused(err) {
		t.Errorf("no broker's address: %v", err)
	}
}
