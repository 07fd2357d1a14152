package api_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// openAPI is the part of an OpenAPI document that the tests look at.
type openAPI struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]any }
}

type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Deprecated  bool
	Parameters  []struct {
		Name, In string
		Example  any
		Schema   any
	}
	RequestBody struct{ Content map[string]media }
	Responses   map[string]struct {
		Description string
		Content     map[string]media
	}
}

type media struct{ Schema, Example any }

func document(t testing.TB, h http.Handler) openAPI {
	t.Helper()
	answer := get(t, h, "GET", "/api/v1/openapi.json")
	var doc openAPI
	if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
		t.Fatalf("OpenAPI document: %v", err)
	}
	return doc
}

func TestOpenAPI_HasEveryRouteAndNoOther(t *testing.T) {
	h := newWorld().handler(t)
	doc := document(t, h)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %q", doc.OpenAPI)
	}
	ids := map[string]bool{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if ids[op.OperationID] || op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s %s: operation id %q, summary %q", method, path, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
			if path == "/api/v1/events" {
				method = "head" // the stream itself has its own tests
			}
			target := strings.Replace(path, "{id}", exampleID(path), 1)
			body, err := json.Marshal(op.RequestBody.Content["application/json"].Example)
			if err != nil {
				t.Fatal(err)
			}
			// A world of its own: one of the requests takes a station out of use, which others ask for.
			answer := ask(t, newWorld().handler(t), strings.ToUpper(method), target, string(body))
			if answer.Code >= 300 {
				t.Errorf("%s %s: status %d: %s", method, target, answer.Code, answer.Body)
			}
		}
	}
	// The contract's table of what can be read, and the one order that can be given.
	for _, want := range strings.Fields(`/ /healthz /readyz /metrics /docs /api/v1/openapi.json /api/v1/stations /api/v1/stations/{id}
		/api/v1/measurements /api/v1/spectra /api/v1/detections /api/v1/health /api/v1/gaps /api/v1/acquisitions /api/v1/acquisitions/{id}
		/api/v1/recordings /api/v1/recordings/{id} /api/v1/recordings/{id}.sigmf /api/v1/recordings/{id}.sigmf-meta
		/api/v1/recordings/{id}.sigmf-data /api/v1/events`) {
		if _, ok := doc.Paths[want]["get"]; !ok {
			t.Errorf("GET %s is not described", want)
		}
	}
	for _, want := range []string{"/api/v1/acquisitions", "/api/v1/detections/{id}/capture"} {
		if _, ok := doc.Paths[want]["post"]; !ok {
			t.Errorf("POST %s is not described", want)
		}
	}
}

// Two validators that others wrote judge the document.
func TestOpenAPI_IsValid(t *testing.T) {
	answer := get(t, newWorld().handler(t), "GET", "/api/v1/openapi.json")
	servers.ValidateOpenAPI(t, answer.Body.Bytes())
}

func exampleID(path string) string {
	switch {
	case strings.Contains(path, "stations"), strings.Contains(path, "websdrs"):
		return "torino"
	case strings.Contains(path, "acquisitions"), strings.Contains(path, "acquisition/status"):
		return acquisitionID
	case strings.Contains(path, "tokens"):
		return "club"
	case strings.Contains(path, "detections"):
		return detectionID
	}
	return captureID
}

func TestOpenAPI_EveryExampleIsWhatItsSchemaSays(t *testing.T) {
	doc := document(t, newWorld().handler(t))
	examples := 0
	check := func(where string, schema, example any) {
		if example == nil {
			return
		}
		examples++
		for _, fault := range validate(doc.Components.Schemas, schema, example, where) {
			t.Error(fault)
		}
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			for _, p := range op.Parameters {
				if number, err := parseNumber(p); err == nil {
					p.Example = number
				}
				check(method+" "+path+" ?"+p.Name, p.Schema, p.Example)
			}
			for mediaType, m := range op.RequestBody.Content {
				check(method+" "+path+" "+mediaType, m.Schema, m.Example)
			}
			for status, response := range op.Responses {
				for mediaType, m := range response.Content {
					check(method+" "+path+" "+status+" "+mediaType, m.Schema, m.Example)
				}
			}
		}
	}
	if examples < 30 {
		t.Errorf("%d examples, want one of every body and parameter", examples)
	}
}

// parseNumber reads the example of a numeric parameter, which is written as text in an address.
func parseNumber(p struct {
	Name, In string
	Example  any
	Schema   any
},
) (float64, error) {
	var n float64
	schema, ok := p.Schema.(map[string]any)
	text, isText := p.Example.(string)
	if !ok || !isText || schema["type"] != "integer" {
		return 0, fmt.Errorf("no number")
	}
	_, err := fmt.Sscan(text, &n)
	return n, err
}

func TestOpenAPI_AnswersAreWhatTheirSchemasSay(t *testing.T) {
	h := newWorld().handler(t)
	doc := document(t, h)
	for path, operations := range doc.Paths {
		op, ok := operations["get"]
		if !ok || strings.Contains(path, "openapi") {
			continue
		}
		m, ok := op.Responses["200"].Content["application/json"]
		if !ok || m.Schema == nil {
			continue
		}
		var got any
		answer := get(t, h, "GET", strings.Replace(path, "{id}", exampleID(path), 1))
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, fault := range validate(doc.Components.Schemas, m.Schema, got, path) {
			t.Error(fault)
		}
	}
	var got any
	answer := get(t, h, "GET", "/api/v1/measurements?limit=0")
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, fault := range validate(doc.Components.Schemas, map[string]any{"$ref": "#/components/schemas/Problem"}, got, "problem") {
		t.Error(fault)
	}
}

// validate checks a value against the part of JSON Schema that the document uses. Members that a schema does not name
// are faults: the documentation would not show them.
func validate(components map[string]any, schema, value any, where string) []string {
	s, ok := schema.(map[string]any)
	if !ok {
		return []string{where + ": no schema"}
	}
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		if components[name] == nil {
			return []string{where + ": no component " + name}
		}
		return validate(components, components[name], value, where)
	}
	var faults []string
	for keyword := range s {
		if !slices.Contains([]string{
			"type", "properties", "required", "items", "enum", "pattern", "format", "description", "additionalProperties",
			"minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "default", "maxLength", "style", "anyOf",
		}, keyword) {
			faults = append(faults, where+": keyword "+keyword+" is not checked by this test")
		}
	}
	if options, ok := s["anyOf"].([]any); ok {
		for _, one := range options {
			if faults = validate(components, one, value, where); len(faults) == 0 {
				return nil
			}
		}
		return faults
	}
	if !hasType(s["type"], value) {
		return append(faults, fmt.Sprintf("%s: %v is not of type %v", where, value, s["type"]))
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, value) {
		faults = append(faults, fmt.Sprintf("%s: %v is none of %v", where, value, enum))
	}
	switch v := value.(type) {
	case string:
		return append(faults, validateText(s, v, where)...)
	case []any:
		for i, item := range v {
			faults = append(faults, validate(components, s["items"], item, fmt.Sprintf("%s[%d]", where, i))...)
		}
	case map[string]any:
		faults = append(faults, validateObject(components, s, v, where)...)
	}
	return faults
}

func validateText(s map[string]any, v, where string) []string {
	if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
		return []string{fmt.Sprintf("%s: %q does not match %s", where, v, pattern)}
	}
	if _, err := time.Parse(time.RFC3339Nano, v); s["format"] == "date-time" && err != nil {
		return []string{fmt.Sprintf("%s: %v", where, err)}
	}
	return nil
}

func validateObject(components, s, v map[string]any, where string) []string {
	var faults []string
	properties, ok := s["properties"].(map[string]any)
	if !ok {
		return nil // anything
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s: %v is missing", where, name))
		}
	}
	for name, member := range v {
		if properties[name] == nil {
			faults = append(faults, where+": "+name+" is not described")
			continue
		}
		faults = append(faults, validate(components, properties[name], member, where+"."+name)...)
	}
	return faults
}

func hasType(want, value any) bool {
	if many, ok := want.([]any); ok {
		return slices.ContainsFunc(many, func(one any) bool { return hasType(one, value) })
	}
	switch v := value.(type) {
	case nil:
		return want == "null" || want == nil
	case string:
		return want == "string" || want == nil
	case float64:
		return want == "number" || want == nil || want == "integer" && v == math.Trunc(v)
	case bool:
		return want == "boolean" || want == nil
	case []any:
		return want == "array" || want == nil
	case map[string]any:
		return want == "object" || want == nil
	}
	return false
}
