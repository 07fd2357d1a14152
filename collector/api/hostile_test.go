package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// TestHostile_EveryRouteAnswersBadInputWithAProblem walks the table of routes, on real stores, and hands each parameter, each id
// and each member of a body what should not be there.
func TestHostile_EveryRouteAnswersBadInputWithAProblem(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"SQLite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "heimdall.db") },
		"PostgreSQL": func(t *testing.T) string { return servers.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := stockedIn(t, database(t))
			a := &attack{t: t, h: h, doc: document(t, h)}
			for _, path := range slices.Sorted(maps.Keys(a.doc.Paths)) {
				for method, op := range a.doc.Paths[path] {
					a.route(strings.ToUpper(method), path, op)
				}
				a.methods(path)
			}
			if a.sent < 2000 {
				t.Errorf("%d requests, want some of each kind to every route", a.sent)
			}
			t.Logf("%d requests, %d problems", a.sent, a.problems)
			for _, list := range lists() { // it is all still there
				if answer := get(t, h, "GET", "/api/v1/"+list); answer.Code != http.StatusOK {
					t.Errorf("afterwards %s: status %d", list, answer.Code)
				}
			}
		})
	}
}

// attack sends requests that are wrong in one place each.
type attack struct {
	t              *testing.T
	h              http.Handler
	doc            openAPI
	sent, problems int
}

func (a *attack) route(method, path string, op operation) {
	target := strings.Replace(path, "{id}", exampleID(path), 1)
	streams := slices.Contains(slices.Collect(maps.Keys(op.Responses["200"].Content)), "text/event-stream")
	for _, p := range op.Parameters {
		switch p.In {
		case "path":
			for _, id := range badIDs() {
				a.send(method, strings.Replace(path, "{id}", id, 1), exampleBody(op), "", nil)
			}
		case "query":
			if streams { // what is right after all must not go on for ever
				method = "HEAD"
			}
			a.parameter(method, target, p.Name, op)
		}
	}
	if takesQuery(op) {
		a.send(method, target+"?no_such_parameter=1", exampleBody(op), "no_such_parameter", []string{"name"})
	}
	if _, ok := op.Responses["406"]; ok {
		a.send(method, target, exampleBody(op), "Accept", nil, "Accept", "image/png")
	}
	if op.RequestBody.Content != nil {
		a.body(method, target, op)
	}
}

func (a *attack) parameter(method, target, name string, op operation) {
	for _, raw := range []string{
		"", "-1", "1e400", "NaN", "Infinity", "-Infinity", "0x1p-2", "%00", "%ff%fe", "%F0%28%8C%28", "'%20OR%201=1;--", "..%2f..%2fetc%2fpasswd", "%7B%7D", "[]",
		"null", "%EF%BC%91", "1;2", "%0d%0aSet-Cookie:a=b", strings.Repeat("9", 400), strings.Repeat("a", 100_000), "99999999999999999999999",
	} {
		a.send(method, target+"?"+name+"="+raw, exampleBody(op), name, []string{"query"}) // a semicolon spoils all of it
	}
	a.send(method, target+"?"+name+"=%zz", exampleBody(op), "query", nil)
	a.send(method, target+"?"+name+"[]=1", exampleBody(op), name+"[]", nil)
}

// badIDs are ids as they stand in an address.
func badIDs() []string {
	return []string{
		"..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "%2fetc%2fpasswd", "..%5c..%5c", "%00", "a%00.sigmf", "%ff%fe", "%F0%28%8C%28", "%0d%0aX:y", "'%20OR%20'1'='1",
		"-1", "NaN", "99999999999999999999999999", "1e400", "%7B%22a%22:1%7D", "null", "%EF%BC%91", strings.Repeat("a", 20_000), strings.Repeat("..%2f", 2000),
		"torino-382072616e646f6d-99999999999999999999", "torino-zz-1", "%20", "~", "*", "con",
	}
}

func exampleBody(op operation) string {
	content, ok := op.RequestBody.Content["application/json"]
	if !ok {
		return ""
	}
	text, err := json.Marshal(content.Example)
	if err != nil {
		return ""
	}
	return string(text)
}

func (a *attack) body(method, target string, op operation) {
	schema, _ := op.RequestBody.Content["application/json"].Schema.(map[string]any)
	name, _ := schema["$ref"].(string)
	component, _ := a.doc.Components.Schemas[strings.TrimPrefix(name, "#/components/schemas/")].(map[string]any)
	properties, _ := component["properties"].(map[string]any)
	if len(properties) == 0 {
		a.t.Fatalf("%s %s: the body has no members", method, target)
	}
	var example map[string]json.RawMessage
	if err := json.Unmarshal([]byte(exampleBody(op)), &example); err != nil {
		a.t.Fatalf("%s %s: %v", method, target, err)
	}
	for member := range properties {
		for _, value := range []string{
			"true", "-1", "1e400", "-0", "[]", "{}", "[[[[[[1]]]]]]", `"NaN"`, `"Infinity"`, `"\u0000"`, `"\ud800"`, `"'; DROP TABLE acquisition;--"`, `"../../etc/passwd"`,
			`"` + strings.Repeat("x", 5000) + `"`, strings.Repeat("9", 400), `["a","a"]`, `[null]`, `[{}]`, `["\u0000"]`, `9007199254740993`, `"１"`, `"9999-12-31T23:59:59Z"`, `{"a":NaN}`,
		} {
			broken := maps.Clone(example)
			broken[member] = json.RawMessage(value)
			var members []string
			for name, v := range broken {
				members = append(members, fmt.Sprintf("%q:%s", name, v))
			}
			slices.Sort(members)
			a.send(method, target, "{"+strings.Join(members, ",")+"}", member, []string{"body", "name", "id"}) // a name may be taken by one that was right, an id be nobody's
		}
	}
	for _, text := range []string{
		"null", "[]", "17", `"text"`, "{", "{} {}", "\xff\xfe", "{\"a\":\xff}", "\x00", strings.Repeat("[", 50_000), strings.Repeat(`{"a":`, 10_000),
		`{"` + strings.Repeat("k", 30_000) + `":1}`,
	} {
		a.send(method, target, text, "", nil)
	}
	a.send(method, target, `{"no_such_member":1}`, "", nil)
	for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-16", ";;", "application/x-www-form-urlencoded"} {
		if answer := a.send(method, target, exampleBody(op), "Content-Type", nil, "Content-Type", kind); answer != http.StatusUnsupportedMediaType {
			a.t.Errorf("%s %s as %s: status %d", method, target, kind, answer)
		}
	}
	if answer := a.send(method, target, strings.Repeat(" ", 10<<20), "body", nil); answer != http.StatusRequestEntityTooLarge {
		a.t.Errorf("%s %s, 10 MB: status %d", method, target, answer)
	}
}

// methods asks for what the address does not take.
func (a *attack) methods(path string) {
	target := strings.Replace(path, "{id}", exampleID(path), 1)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		if _, ok := a.doc.Paths[path][strings.ToLower(method)]; ok {
			continue
		}
		status := a.send(method, target, "{}", "method", []string{"id"})
		if status != http.StatusMethodNotAllowed && status != http.StatusNotFound { // the last step may be an id of another route
			a.t.Errorf("%s %s: status %d, want 405", method, target, status)
		}
	}
}

// send sends one request. A refusal must be a problem as the document describes it; it names the field, or one of others, unless
// that is empty.
func (a *attack) send(method, target, body, field string, others []string, headers ...string) int {
	a.t.Helper()
	a.sent++
	shown := fmt.Sprintf("%s %.120s %.120q", method, target, body)
	r, err := http.NewRequestWithContext(a.t.Context(), method, "/", strings.NewReader(body))
	if err != nil {
		a.t.Fatalf("%s: %v", shown, err)
	}
	address, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(address)
	if err != nil {
		a.t.Fatalf("%s: %v", shown, err)
	}
	r.URL = &url.URL{Path: path, RawPath: address, RawQuery: query}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer := serve(a.h, r)
	switch {
	case answer.Code >= 500:
		a.t.Errorf("%s: status %d: %s", shown, answer.Code, answer.Body)
	case answer.Code >= 400 && method != "HEAD":
		a.problems++
		p := problem(a.t, answer)
		var got any
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			a.t.Errorf("%s: %v", shown, err)
		}
		for _, fault := range validate(a.doc.Components.Schemas, map[string]any{"$ref": "#/components/schemas/Problem"}, got, shown) {
			a.t.Error(fault)
		}
		if len(p.Errors) == 0 {
			a.t.Errorf("%s: status %d names no field: %s", shown, answer.Code, answer.Body)
		}
		named := false
		for _, e := range p.Errors {
			name, _, _ := strings.Cut(e.Field, "[")
			named = named || field == "" || e.Field == field || name == field || slices.Contains(others, e.Field)
			if len(e.Value) > 200 {
				a.t.Errorf("%s: a value of %d bytes comes back", shown, len(e.Value))
			}
		}
		if !named {
			a.t.Errorf("%s: status %d does not name %s: %+v", shown, answer.Code, field, p.Errors)
		}
	}
	return answer.Code
}

// takesQuery tells whether an operation looks at its parameters: then it can refuse them.
func takesQuery(op operation) bool {
	_, ok := op.Responses["400"]
	return ok || op.Deprecated && op.Responses["422"].Content != nil // as the former service refuses
}
