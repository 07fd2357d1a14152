package api

import (
	"bytes"
	_ "embed" // the page and its style sheet
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

//go:embed docs.html
var docsTemplate string

//go:embed docs.css
var docsCSS []byte

// hostForm is a host as addresses have it, with or without a port.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// docsRoute is what the page shows of a route.
type docsRoute struct {
	ID, Method, Path, Role, Summary, Detail string
	Status                                  int
	Types                                   []string
	Query                                   []docsParameter
	Curl, Body, Answer                      string
	Problems                                []problemKind
}

type docsParameter struct{ Name, Text, Example string }

// docsGroup is the routes of one tag.
type docsGroup struct {
	Name, Text string
	Routes     []docsRoute
}

// renderDocs makes the documentation page out of the table of routes.
func (s *server) renderDocs() ([]byte, error) {
	page, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("read documentation page: %w", err)
	}
	var groups []docsGroup
	for _, tag := range tagTexts() {
		group := docsGroup{Name: tag.name, Text: tag.text}
		for i := range s.routes {
			if s.routes[i].tag != tag.name {
				continue
			}
			shown, err := s.routes[i].shown(s.AskTokens)
			if err != nil {
				return nil, err
			}
			group.Routes = append(group.Routes, shown)
		}
		groups = append(groups, group)
	}
	var body bytes.Buffer
	err = page.Execute(&body, map[string]any{"Version": s.versionText(), "Groups": groups, "Problems": allProblemKind})
	if err != nil {
		return nil, fmt.Errorf("make documentation page: %w", err)
	}
	return body.Bytes(), nil
}

func (rt *route) shown(asksTokens bool) (docsRoute, error) {
	curl, err := rt.curl(asksTokens)
	if err != nil {
		return docsRoute{}, err
	}
	shown := docsRoute{
		ID: rt.id, Method: rt.method, Path: rt.path, Role: string(rt.role), Summary: rt.summary, Detail: rt.detail, Status: rt.success(), Types: rt.answer.types, Problems: rt.allProblems(), Curl: curl,
	}
	for _, p := range rt.query {
		shown.Query = append(shown.Query, docsParameter{p.name, p.text, p.example})
	}
	if rt.body != nil {
		if shown.Body, err = indented(rt.body.example); err != nil {
			return shown, err
		}
	}
	shown.Answer, err = indented(rt.answer.example)
	return shown, err
}

// docsAddress stands on the page for the address that it is read from.
const docsAddress = "http://collector.invalid"

// curl is a command that asks for the route, with the first of its parameters.
func (rt *route) curl(asksTokens bool) (string, error) {
	options := "-s"
	if asksTokens && rt.role != roleOpen {
		options += ` -H "Authorization: Bearer $HEIMDALL_TOKEN"`
	}
	if method := rt.method; method != http.MethodGet && (method != http.MethodPost || rt.body == nil) {
		options += " -X " + method
	}
	switch {
	case rt.body != nil:
		body, err := json.Marshal(rt.body.example)
		if err != nil {
			return "", fmt.Errorf("write example: %w", err)
		}
		options += " -H 'Content-Type: " + jsonType + "' -d '" + string(body) + "'"
	case slices.Contains(rt.answer.types, eventsType):
		options += "N" // each event at once
	case rt.lasting:
		options += "OJ" // into a file of the name that comes with it
	}
	address := docsAddress + strings.Replace(rt.path, "{id}", rt.exampleID(), 1)
	if len(rt.query) > 0 {
		address += "?" + rt.query[0].name + "=" + url.QueryEscape(rt.query[0].example)
	}
	return "curl " + options + " '" + address + "'", nil
}

// exampleID is the id of the thing that the route's examples show.
func (rt *route) exampleID() string {
	things, _, _ := strings.Cut(strings.TrimPrefix(rt.path, "/api/v1/"), "/{id}")
	return map[string]string{
		"stations": exampleStation().ID, "acquisitions": exampleAcquisition, "recordings": exampleCapture, "detections": exampleDetection,
		"acquisition/status": exampleAcquisition, "tokens": exampleToken().Name, "acquisition/websdrs": "1",
	}[things]
}

// indented is an example as people read it; empty for none.
func indented(example any) (string, error) {
	if example == nil {
		return "", nil
	}
	text, err := json.MarshalIndent(example, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write example: %w", err)
	}
	return string(text), nil
}

func (s *server) docsPage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Vary", "Accept")
	page := bytes.ReplaceAll(s.docs, []byte(docsAddress), []byte(addressOf(r)))
	return sendKnownBytes(w, r, htmlType+"; charset=utf-8", page)
}

// addressOf is the address that a request came to.
func addressOf(r *http.Request) string {
	switch {
	case !hostForm.MatchString(r.Host): // who asked wrote it, and it ends up in a command
		return "http://127.0.0.1:8090"
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (s *server) docsStyle(w http.ResponseWriter, r *http.Request) error {
	return sendKnownBytes(w, r, "text/css; charset=utf-8", docsCSS)
}
