package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/protocol"
)

var update = flag.Bool("update", false, "write testdata/roles.txt again")

// TestRoles_TableIsAgreed holds the router's own table against the one that people look at when a role changes.
func TestRoles_TableIsAgreed(t *testing.T) {
	var lines []string
	for _, rule := range api.Rules() {
		line := rule.Role + " " + rule.Method + " " + rule.Path
		if rule.Network {
			line += " (whole network)"
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	path := filepath.Join("testdata", "roles.txt")
	got := strings.Join(lines, "")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v; the routes are\n%s\nand %s says\n%s\nwhere that is meant, write it again with -update", err, got, path, want)
	}
}

// identities are all kinds of callers; a secret that is empty sends none.
func identities() map[string]string {
	return map[string]string{
		"none": "", "unknown": "hdt_nobody", "malformed": "\x7f", "revoked": "hdt_gone",
		"viewer": "hdt_viewer", "operator": "hdt_operator", "admin": "hdt_admin", "limited": "hdt_limited", "elsewhere": "hdt_elsewhere",
	}
}

// guardedWorld asks for tokens, and has one of each kind.
func guardedWorld() *world {
	w := newWorld()
	w.config.AskTokens = true
	for _, token := range []protocol.Token{
		{Name: "viewer", Role: protocol.RoleViewer},
		{Name: "operator", Role: protocol.RoleOperator},
		{Name: "admin", Role: protocol.RoleAdmin},
		{Name: "gone", Role: protocol.RoleAdmin, Revoked: protocol.FormatTime(noon)},
		{Name: "limited", Role: protocol.RoleOperator, Stations: []string{"torino"}},
		{Name: "elsewhere", Role: protocol.RoleOperator, Stations: []string{"genova"}},
	} {
		token.Created = protocol.FormatTime(noon)
		w.tokens.held["hdt_"+token.Name] = token
	}
	w.choose()
	return w
}

// choose has the lists hold what is asked for only, as the store's do.
func (w *world) choose() {
	records, list := w.reader.records, w.recordings.list
	other := func(f protocol.Filter) bool { return len(f.Stations) > 0 && !slices.Contains(f.Stations, "torino") }
	w.reader.records = func(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error) {
		if other(f) {
			return nil, "", nil
		}
		return records(ctx, kind, f)
	}
	w.recordings.list = func(ctx context.Context, f protocol.Filter) ([]protocol.Recording, string, error) {
		if other(f) {
			return nil, "", nil
		}
		return list(ctx, f)
	}
}

// askAs sends the documented example of a route as somebody.
func (w *world) askAs(t *testing.T, h http.Handler, doc openAPI, rule api.Rule, secret string) (status int, body string) {
	t.Helper()
	method := rule.Method
	if rule.Path == "/api/v1/events" {
		method = "HEAD" // the stream itself does not end
	}
	var headers []string
	if secret != "" {
		headers = []string{"Authorization", "Bearer " + secret}
	}
	op := doc.Paths[rule.Path][strings.ToLower(rule.Method)]
	answer := ask(t, h, method, strings.Replace(rule.Path, "{id}", exampleID(rule.Path), 1), exampleBody(op), headers...)
	return answer.Code, answer.Body.String()
}

// TestRoles_EveryRouteForEveryIdentity asks for every route of the router as everybody.
func TestRoles_EveryRouteForEveryIdentity(t *testing.T) {
	doc := document(t, newWorld().handler(t))
	asked := 0
	for who, secret := range identities() {
		var w *world
		var h http.Handler
		for i, rule := range api.Rules() {
			if i%20 == 0 || rule.Method != http.MethodGet { // before it is too often; and what a route changes is its own
				w = guardedWorld()
				h = w.handler(t)
			}
			asked++
			status, body := w.askAs(t, h, doc, rule, secret)
			if want := wanted(who, rule); !slices.Contains(want, status/100*100) && !slices.Contains(want, status) {
				t.Errorf("%s %s as %s: status %d, want %v: %s", rule.Method, rule.Path, who, status, want, body)
			}
			if who == "elsewhere" && status < 300 && strings.Contains(body, "torino") && rule.Role != api.RoleOpen && rule.Path != "/" && rule.Path != "/docs" && !strings.HasSuffix(rule.Path, "openapi.json") {
				t.Errorf("%s %s tells who is limited to genova of torino: %s", rule.Method, rule.Path, body)
			}
		}
	}
	if least := len(identities()) * 40; asked < least {
		t.Errorf("%d requests, want at least %d", asked, least)
	}
}

// wanted are the statuses that a route may answer somebody with; whole hundreds stand for all of them.
func wanted(who string, rule api.Rule) []int {
	if rule.Role == api.RoleOpen {
		return []int{200}
	}
	role := protocol.Role(who)
	switch who {
	case "none", "unknown", "malformed", "revoked":
		return []int{401, 429} // wrong tokens are too many after some
	case "limited", "elsewhere":
		role = protocol.RoleOperator
	}
	switch {
	case !role.May(protocol.Role(rule.Role)):
		return []int{403}
	case who != "limited" && who != "elsewhere":
		return []int{200}
	case rule.Network:
		return []int{403}
	case rule.Path == "/api/v1/acquisition/acquire" && who == "limited": // the example is of its station
		return []int{200}
	case rule.Body: // the examples name stations that are not theirs
		return []int{403, 404, 422}
	case !strings.Contains(rule.Path, "{id}"):
		return []int{200}
	case who == "elsewhere":
		return []int{404}
	}
	return []int{200, 404} // an acquisition without stations is nobody's
}

func TestRoles_AreMonotonic(t *testing.T) {
	roles := protocol.Roles()
	for i, has := range roles {
		for j, asked := range roles {
			if has.May(asked) != (i >= j) {
				t.Errorf("%s may what is for %s: %v", has, asked, has.May(asked))
			}
		}
	}
	for _, odd := range []protocol.Role{"", "open", "root"} {
		if odd.May(protocol.RoleViewer) || protocol.RoleAdmin.May(odd) {
			t.Errorf("role %q counts", odd)
		}
	}
}

func TestTokens_WhereTheDatabaseIsAwayNobodyGetsIn(t *testing.T) {
	w := guardedWorld()
	w.tokens.err = errors.New("db7.example: password of heimdall is wrong")
	h := w.handler(t)
	answer := get(t, h, "GET", "/api/v1/stations", "Authorization", "Bearer hdt_admin")
	if p := problem(t, answer); answer.Code != http.StatusServiceUnavailable || strings.Contains(p.Detail, "db7") {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	if answer := get(t, h, "GET", "/healthz", "Authorization", "Bearer hdt_admin"); answer.Code != http.StatusOK {
		t.Errorf("healthz: %d", answer.Code)
	}
}

// Who asks what is open to all needs no token, and so cannot have a wrong one, or too often.
func TestTokens_OpenIsOpen(t *testing.T) {
	for _, secret := range []string{"hdt_nobody", "hdt_viewer"} {
		h := guardedWorld().handler(t)
		for range 60 {
			if answer := get(t, h, "GET", "/healthz", "Authorization", "Bearer "+secret); answer.Code != http.StatusOK {
				t.Fatalf("%s: status %d", secret, answer.Code)
			}
		}
	}
}

// What is out of order names hosts and accounts, and is told to who has a token.
func TestTokens_ReasonsAreNotForEverybody(t *testing.T) {
	w := guardedWorld()
	w.config.Ready = conditionsOf(api.Condition{Name: "database", Reason: "no server answers at db7.example"})
	h := w.handler(t)
	for secret, told := range map[string]bool{"": false, "hdt_nobody": false, "hdt_viewer": true} {
		for _, path := range []string{"/readyz", "/ready"} {
			var headers []string
			if secret != "" {
				headers = []string{"Authorization", "Bearer " + secret}
			}
			answer := get(t, h, "GET", path, headers...)
			if answer.Code != http.StatusServiceUnavailable || strings.Contains(answer.Body.String(), "db7") != told {
				t.Errorf("%s with %q: %d %s", path, secret, answer.Code, answer.Body)
			}
		}
	}
}

func TestLimits_OfOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := guardedWorld().handler(t)
		count := func() (let, refused int) {
			for range 100 {
				answer := get(t, h, "GET", "/api/v1/stations", "Authorization", "Bearer hdt_viewer")
				switch answer.Code {
				case http.StatusOK:
					let++
				case http.StatusTooManyRequests:
					refused++
					if answer.Header().Get("Retry-After") != "1" || problem(t, answer).Type != "/docs#too-many-requests" {
						t.Fatalf("%v %s", answer.Header(), answer.Body)
					}
				default:
					t.Fatalf("status %d", answer.Code)
				}
			}
			return let, refused
		}
		if let, _ := count(); let != 50 {
			t.Errorf("%d at once, want 50", let)
		}
		time.Sleep(time.Second)
		if let, _ := count(); let != 20 {
			t.Errorf("%d after a second, want 20", let)
		}
		if answer := get(t, h, "GET", "/api/v1/stations", "Authorization", "Bearer hdt_admin"); answer.Code != http.StatusOK {
			t.Errorf("another token: %d", answer.Code)
		}
	})
}

func TestLimits_OfWrongTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := guardedWorld().handler(t)
		wrong := func(address string, want int) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/stations", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = address
			r.Header.Set("Authorization", "Bearer hdt_nobody")
			answer := serve(h, r)
			if answer.Code != want {
				t.Errorf("%s: status %d, want %d", address, answer.Code, want)
			}
			if wait := answer.Header().Get("Retry-After"); want == http.StatusTooManyRequests && wait != "12" {
				t.Errorf("%s: Retry-After %q", address, wait)
			}
		}
		for range 5 {
			wrong("192.0.2.1:1000", http.StatusUnauthorized)
		}
		wrong("192.0.2.1:2000", http.StatusTooManyRequests)
		wrong("192.0.2.2:1000", http.StatusUnauthorized)
		for i := range 5 {
			wrong(fmt.Sprintf("[2001:db8::%d]:1000", i), http.StatusUnauthorized)
		}
		wrong("[2001:db8::ffff]:1000", http.StatusTooManyRequests) // one network
		wrong("[2001:db8:0:1::1]:1000", http.StatusUnauthorized)
		// Who has a right one is not kept out by others behind the same proxy.
		if answer := get(t, h, "GET", "/api/v1/stations", "Authorization", "bearer hdt_viewer"); answer.Code != http.StatusOK {
			t.Errorf("a right token: %d", answer.Code)
		}
		time.Sleep(12 * time.Second)
		wrong("192.0.2.1:1000", http.StatusUnauthorized)
		wrong("192.0.2.1:1000", http.StatusTooManyRequests)
		for i := range 10_000 { // many addresses take no more memory
			wrong(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), http.StatusUnauthorized)
		}
	})
}

// One token does not take all streams and bulk reads that there are.
func TestLimits_OfWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := guardedWorld()
		w.config.Now = time.Now
		reading := make(chan struct{})
		w.reader.records = func(context.Context, protocol.Kind, protocol.Filter) ([]protocol.StoredRecord, string, error) {
			<-reading
			return nil, "", nil
		}
		h := w.handler(t)
		for _, c := range []struct {
			path, accept string
			most         int
		}{{"/api/v1/events", "text/event-stream", 64}, {"/api/v1/measurements", "text/csv", 8}} {
			ctx, cancel := context.WithCancel(t.Context())
			var open sync.WaitGroup
			begin := func(secret string) *httptest.ResponseRecorder {
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, c.path, http.NoBody)
				r.Header.Set("Authorization", "Bearer "+secret)
				r.Header.Set("Accept", c.accept)
				answer := httptest.NewRecorder()
				open.Go(func() { h.ServeHTTP(answer, r) })
				return answer
			}
			for range c.most {
				begin("hdt_viewer")
				time.Sleep(time.Second) // of the bubble's clock: it does not ask too often
			}
			for secret, refused := range map[string]bool{"hdt_viewer": true, "hdt_operator": false} {
				answer := begin(secret)
				synctest.Wait()
				if got := answer.Code == http.StatusTooManyRequests; got != refused {
					t.Errorf("%s of %s after %d of hdt_viewer: status %d", c.path, secret, c.most, answer.Code)
				}
			}
			cancel()
			if c.most == 8 {
				close(reading)
			}
			open.Wait()
		}
		if answer := get(t, h, "GET", "/api/v1/measurements", "Authorization", "Bearer hdt_viewer", "Accept", "text/csv"); answer.Code != http.StatusOK {
			t.Errorf("once all have ended: status %d", answer.Code)
		}
	})
}

func TestHosts_OtherNamesAreRefused(t *testing.T) {
	w := newWorld()
	w.config.GoesBy = func(name string) bool {
		return slices.Contains([]string{"localhost", "127.0.0.1", "::1", "heimdall.example.org"}, name)
	}
	h := w.handler(t)
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:8090": true, "LocalHost.:8090": true, "127.0.0.1:8090": true, "[::1]:8090": true, "[::1]": true, "heimdall.example.org": true, "": true,
		"evil.example": false, "evil.example:8090": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "192.0.2.1:8090": false, "127.0.0.1@evil.example": false,
		"evil.example:127.0.0.1": false, " localhost": false, "localhost, evil.example": false,
	} {
		for _, path := range []string{"/", "/healthz", "/api/v1/stations", "/nothing"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			answer := serve(h, r)
			if refused := answer.Code == http.StatusForbidden; refused == ok {
				t.Errorf("%s under %q: status %d", path, host, answer.Code)
			} else if refused && problem(t, answer).Type != "/docs#wrong-host" {
				t.Errorf("%q: %s", host, answer.Body)
			}
		}
	}
}

// TestCrossSite_EveryChangingRouteRefuses sends what a page of another site can send to every route that changes something.
func TestCrossSite_EveryChangingRouteRefuses(t *testing.T) {
	doc := document(t, newWorld().handler(t))
	changing := 0
	for _, rule := range api.Rules() {
		if rule.Method == http.MethodGet {
			continue
		}
		changing++
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
			w := guardedWorld()
			body := exampleBody(doc.Paths[rule.Path][strings.ToLower(rule.Method)])
			headers := append([]string{"Authorization", "Bearer hdt_admin"}, headers...)
			answer := ask(t, w.handler(t), rule.Method, strings.Replace(rule.Path, "{id}", exampleID(rule.Path), 1), body, headers...)
			if answer.Code != http.StatusForbidden || problem(t, answer).Type != "/docs#cross-origin" {
				t.Errorf("%s %s with %v: status %d", rule.Method, rule.Path, headers, answer.Code)
			}
			if len(w.audit.entries) > 0 {
				t.Errorf("%s %s: %v", rule.Method, rule.Path, w.audit.entries)
			}
		}
	}
	if changing < 8 {
		t.Errorf("%d routes change something", changing)
	}
}

// TestOpenAPI_SaysTheRole compares what the document says with the router.
func TestOpenAPI_SaysTheRole(t *testing.T) {
	for _, asks := range []bool{false, true} {
		w := newWorld()
		w.config.AskTokens = asks
		var doc struct {
			Paths map[string]map[string]struct{ Security []map[string][]string }
		}
		answer := get(t, w.handler(t), "GET", "/api/v1/openapi.json", "Authorization", "Bearer hdt_club")
		if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		for _, rule := range api.Rules() {
			security := doc.Paths[rule.Path][strings.ToLower(rule.Method)].Security
			want := `[{"token":["` + rule.Role + `"]}]`
			switch {
			case rule.Role == api.RoleOpen:
				want = "[]"
			case !asks:
				want = strings.Replace(want, "[", "[{},", 1)
			}
			if got, err := json.Marshal(security); err != nil || string(got) != want {
				t.Errorf("%s %s: security %s, want %s", rule.Method, rule.Path, got, want)
			}
		}
	}
}

// TestTokens_AreMadeAndRevoked goes the way of an admin.
func TestTokens_AreMadeAndRevoked(t *testing.T) {
	w := guardedWorld()
	h := w.handler(t)
	admin := []string{"Authorization", "Bearer hdt_admin"}
	answer := ask(t, h, "POST", "/api/v1/tokens", `{"name":"guest","role":"viewer","stations":["torino"],"ttl":"30d"}`, admin...)
	var made api.MadeToken
	if err := json.Unmarshal(answer.Body.Bytes(), &made); err != nil || answer.Code != http.StatusCreated || made.Secret != "hdt_guest" {
		t.Fatalf("status %d, %v: %s", answer.Code, err, answer.Body)
	}
	ends, err := protocol.ParseTime(made.Token.Expires)
	if err != nil || time.Until(ends) < 29*24*time.Hour || made.Token.Role != protocol.RoleViewer || !slices.Equal(made.Token.Stations, []string{"torino"}) {
		t.Errorf("%+v, %v", made.Token, err)
	}
	if list := get(t, h, "GET", "/api/v1/tokens", admin...); strings.Contains(list.Body.String(), "hdt_") || !strings.Contains(list.Body.String(), `"name":"guest"`) {
		t.Errorf("the list: %s", list.Body)
	}
	if csv := get(t, h, "GET", "/api/v1/tokens", append([]string{"Accept", "text/csv"}, admin...)...); !strings.HasPrefix(csv.Body.String(), "name,role,stations,created,last_used,expires,revoked\r\n") {
		t.Errorf("as CSV: %s", csv.Body)
	}
	guest := []string{"Authorization", "Bearer hdt_guest"}
	if answer := get(t, h, "GET", "/api/v1/stations", guest...); answer.Code != http.StatusOK {
		t.Errorf("the guest: %d", answer.Code)
	}
	if answer := get(t, h, "DELETE", "/api/v1/tokens/guest", admin...); answer.Code != http.StatusNoContent {
		t.Errorf("revoke: %d %s", answer.Code, answer.Body)
	}
	if answer := get(t, h, "GET", "/api/v1/stations", guest...); answer.Code != http.StatusUnauthorized {
		t.Errorf("the guest, revoked: %d", answer.Code)
	}
	for body, field := range map[string]string{
		`{"role":"viewer"}`: "name", `{"name":"a"}`: "role", `{"name":"a","role":"viewer","ttl":"soon"}`: "ttl", `{"name":"a","role":"viewer","ttl":-1}`: "ttl",
		`{"name":"a","role":"viewer","stations":["A B"]}`: "stations[0]", `{"name":"a","role":"viewer","secret":"mine"}`: "secret",
	} {
		answer := ask(t, h, "POST", "/api/v1/tokens", body, admin...)
		if p := problem(t, answer); answer.Code != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Field != field {
			t.Errorf("%s: status %d: %s", body, answer.Code, answer.Body)
		}
	}
}

// conditionsOf is what Ready says.
func conditionsOf(list ...api.Condition) func(ctx context.Context) []api.Condition {
	return func(context.Context) []api.Condition { return slices.Clone(list) }
}
