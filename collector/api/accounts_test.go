package api_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

// awayError is that of a broker that cannot be told.
type awayError struct{}

func (awayError) Error() string           { return "away" }
func (e awayError) BrokerTrouble() string { return "tell the broker of account sub-grafana: away" }

func TestAccounts_AreMadeListedAndRevoked(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	made := ask(t, h, "POST", "/api/v1/accounts", `{"kind":"subscriber","name":"grafana"}`)
	if want := `{"username":"sub-grafana","password":"once","url":"mqtts://mq.lan:8883","note":"reload"}` + "\n"; made.Code != http.StatusCreated || made.Body.String() != want {
		t.Errorf("%d %s, want %s", made.Code, made.Body, want)
	}
	if text := ask(t, h, "GET", "/api/v1/accounts", "").Body.String(); !strings.Contains(text, `"sub-grafana"`) || strings.Contains(text, "hash") {
		t.Errorf("the list is %s", text)
	}
	if revoked := ask(t, h, "DELETE", "/api/v1/accounts/sub-grafana", ""); revoked.Code != http.StatusOK || revoked.Body.String() != `{"username":"sub-grafana"}`+"\n" {
		t.Errorf("revoke: %d %s", revoked.Code, revoked.Body)
	}
	if diff := cmp.Diff([]string{"subscriber grafana by local", "revoke sub-grafana by local"}, w.accounts.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

func TestAccounts_SayWhatIsWrong(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	for body, field := range map[string]string{
		`{"name":"grafana"}`: "kind", `{"kind":"subscriber"}`: "name", `{"kind":"token","name":"grafana"}`: "kind", `{"kind":"station","name":7}`: "name",
		`{"kind":"station","name":"torino","password":"x"}`: "password",
	} {
		if answer := ask(t, h, "POST", "/api/v1/accounts", body); answer.Code != http.StatusUnprocessableEntity || !strings.Contains(answer.Body.String(), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", body, answer.Code, answer.Body)
		}
	}
	if len(w.accounts.done) > 0 {
		t.Errorf("a wrong body leads to %v", w.accounts.done)
	}
	for err, want := range map[error]int{
		protocol.FieldErrors{{Field: "name", Value: "grafana", Message: "taken"}}[0]: http.StatusUnprocessableEntity,
		fmt.Errorf("account: %w", fs.ErrNotExist):                                    http.StatusNotFound,
		fmt.Errorf("account: %w", awayError{}):                                       http.StatusServiceUnavailable,
		errors.New("out of order"):                                                   http.StatusInternalServerError,
	} {
		w.accounts.err = err
		answer := ask(t, h, "DELETE", "/api/v1/accounts/sub-grafana", "")
		if answer.Code != want || want == http.StatusServiceUnavailable && !strings.Contains(answer.Body.String(), "sub-grafana: away") {
			t.Errorf("%v: %d %s, want %d", err, answer.Code, answer.Body, want)
		}
	}
}

func TestAccounts_AreAllThatAStationHasWithoutTLS(t *testing.T) {
	w := newWorld()
	w.config.Enrolment = nil
	h := w.handler(t)
	for _, request := range [][2]string{{"POST", "/api/v1/stations/torino/revoke"}, {"DELETE", "/api/v1/stations/torino"}} {
		if answer := ask(t, h, request[0], request[1], ""); answer.Code != http.StatusNoContent {
			t.Errorf("%s %s: %d %s", request[0], request[1], answer.Code, answer.Body)
		}
	}
	if diff := cmp.Diff([]string{"disable torino by local", "remove torino by local"}, w.accounts.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if answer := ask(t, h, "POST", "/api/v1/stations/torino/code", ""); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), "and start the collector again") {
		t.Errorf("a code: %d %s", answer.Code, answer.Body)
	}
	if answer := ask(t, h, "DELETE", "/api/v1/stations/TORINO", ""); answer.Code != http.StatusNotFound {
		t.Errorf("no station's id: %d %s", answer.Code, answer.Body)
	}
	w.accounts.err = fs.ErrNotExist
	for request, want := range map[[2]string]string{
		{"POST", "/api/v1/stations/torino/revoke"}: "station torino has no account",
		{"DELETE", "/api/v1/stations/torino"}:      "there is no station torino",
	} {
		if answer := ask(t, h, request[0], request[1], ""); answer.Code != http.StatusNotFound || !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s %s: %d %s, want %s", request[0], request[1], answer.Code, answer.Body, want)
		}
	}
}
