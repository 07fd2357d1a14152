package api

import (
	"bytes"
	_ "embed" // the page and its style sheet
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed docs.html
var docsTemplate string

//go:embed docs.css
var docsCSS []byte

// docsRoute is what the page shows of a route.
type docsRoute struct {
	ID, Method, Path, Summary, Detail string
	Status                            int
	Types                             []string
	Query                             []docsParameter
	Body, Answer                      string
	Problems                          []problemKind
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
			shown, err := s.routes[i].shown()
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

func (rt *route) shown() (docsRoute, error) {
	shown := docsRoute{
		ID: rt.id, Method: rt.method, Path: rt.path, Summary: rt.summary, Detail: rt.detail, Status: rt.success(), Types: rt.answer.types, Problems: rt.allProblems(),
	}
	for _, p := range rt.query {
		shown.Query = append(shown.Query, docsParameter{p.name, p.text, p.example})
	}
	var err error
	if rt.body != nil {
		if shown.Body, err = indented(rt.body.example); err != nil {
			return shown, err
		}
	}
	shown.Answer, err = indented(rt.answer.example)
	return shown, err
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
	return sendBytes(w, r, http.StatusOK, htmlType+"; charset=utf-8", s.docs)
}

func (s *server) docsStyle(w http.ResponseWriter, r *http.Request) error {
	return sendBytes(w, r, http.StatusOK, "text/css; charset=utf-8", docsCSS)
}
