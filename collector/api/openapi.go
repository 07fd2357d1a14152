package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// describe makes the OpenAPI document out of the table of routes.
func (s *server) describe() ([]byte, error) {
	paths := map[string]map[string]any{}
	for i := range s.routes {
		rt := &s.routes[i]
		if paths[rt.path] == nil {
			paths[rt.path] = map[string]any{}
		}
		paths[rt.path][strings.ToLower(rt.method)] = rt.operation(s.AskTokens)
	}
	document := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Heimdall collector", "version": s.versionText(), "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "What stations measured, acquisitions and recordings. Errors are RFC 9457 problem details that name the field, the value and the mend.",
		},
		"servers": []any{map[string]any{"url": "/"}},
		"tags":    tags(),
		"paths":   paths,
		"components": map[string]any{
			"schemas": allSchemas(),
			"securitySchemes": map[string]any{
				"token": map[string]any{
					"type": "http", "scheme": "bearer", "bearerFormat": "hdt_…",
					"description": "Asked for where http.tokens is on, as it must be beyond loopback. Each operation names the least role: viewer, operator or admin, each of which may all that the one before it may. A token may be limited to stations.",
				},
			},
		},
	}
	body, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	return append(body, '\n'), nil
}

func (s *server) versionText() string {
	if s.Version == "" {
		return "development"
	}
	return s.Version
}

func tags() []any {
	var all []any
	for _, t := range tagTexts() {
		all = append(all, map[string]any{"name": t.name, "description": t.text})
	}
	return all
}

type tagText struct{ name, text string }

func tagTexts() []tagText {
	return []tagText{
		{"stations", "The sites that measure."},
		{"records", "What they sent."},
		{"acquisitions", "One request to many stations for the same stretch of time."},
		{"recordings", "IQ as SigMF."},
		{"events", "What happens, while it happens."},
		{"accounts", "Who may ask, and who did what."},
		{"service", "The collector itself."},
		{oldTag, "For clients of the service that Heimdall replaces; others should use the addresses above."},
	}
}

func (rt *route) operation(asksTokens bool) map[string]any {
	operation := map[string]any{"operationId": rt.id, "tags": []string{rt.tag}, "summary": rt.summary, "responses": rt.responses()}
	if rt.old {
		operation["deprecated"] = true
	}
	if rt.detail != "" {
		operation["description"] = rt.detail
	}
	operation["security"] = []any{}
	if rt.role != roleOpen {
		operation["security"] = rt.security(asksTokens)
	}
	if rt.body != nil {
		operation["requestBody"] = map[string]any{"required": !rt.bodyless, "content": rt.body.describe()}
	}
	var parameters []any
	if strings.Contains(rt.path, "{id}") {
		parameters = append(parameters, map[string]any{"name": "id", "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, p := range rt.query {
		described := map[string]any{"name": p.name, "in": "query", "description": p.text, "schema": p.schema, "example": p.example}
		if p.many {
			described["style"], described["explode"] = "form", false
			described["example"] = []string{p.example}
		}
		parameters = append(parameters, described)
	}
	if parameters != nil {
		operation["parameters"] = parameters
	}
	return operation
}

// security says which role a token must have at least, in the way that OpenAPI 3.1 has for roles. Where no tokens are asked for, it
// may be left out.
func (rt *route) security(asksTokens bool) []any {
	token := map[string]any{"token": []string{string(rt.role)}}
	if asksTokens {
		return []any{token}
	}
	return []any{map[string]any{}, token}
}

func (rt *route) success() int {
	if rt.status == 0 {
		return http.StatusOK
	}
	return rt.status
}

func (rt *route) responses() map[string]any {
	text := rt.answer.text
	if text == "" {
		text = http.StatusText(rt.success())
	}
	responses := map[string]any{strconv.Itoa(rt.success()): map[string]any{"description": text, "content": rt.answer.describe()}}
	problem := func(k problemKind) {
		responses[strconv.Itoa(k.Status)] = map[string]any{
			"description": k.Title, "content": map[string]any{problemType: map[string]any{"schema": reference("Problem")}},
		}
	}
	for _, k := range rt.allProblems() {
		problem(k)
	}
	if rt.id == "readyz" || rt.id == "oldReady" {
		responses["503"] = map[string]any{"description": "A condition does not hold.", "content": rt.answer.describe()}
	}
	return responses
}

// allProblems are the route's own problems and those of every address.
func (rt *route) allProblems() []problemKind {
	all := []problemKind{notAcceptable, internal}
	switch {
	case rt.anyQuery:
	case rt.old:
		all = append(all, badField)
	default:
		all = append(all, badQuery)
	}
	if rt.role != roleOpen {
		all = append(all, unauthorized, forbidden, tooMany)
	}
	return append(all, rt.problems...)
}

func (c *content) describe() map[string]any {
	all := map[string]any{}
	for i, mediaType := range c.types {
		media := map[string]any{}
		switch {
		case i == 0 && c.schema != "":
			media["schema"] = reference(c.schema)
			media["example"] = c.example
		case mediaType == jsonType:
			media["schema"] = map[string]any{"type": "object"}
		case mediaType == bytesType || mediaType == tarType:
			media["schema"] = map[string]any{} // binary, as OpenAPI 3.1 says it
		default:
			media["schema"] = map[string]any{"type": "string"}
		}
		all[mediaType] = media
	}
	return all
}

func (s *server) openAPIDocument(w http.ResponseWriter, r *http.Request) error {
	return sendKnownBytes(w, r, jsonType, s.openAPI)
}
