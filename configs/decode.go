package configs

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Fault is one thing wrong in a file.
type Fault struct {
	File         string
	Line, Column int    // from 1; 0 when the fault has no place, as of a missing key
	Field        string // receivers[0].source
	Value        string // as written; empty when there is none
	Message      string // what is wrong and what to write instead
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	if f.Field != "" {
		fmt.Fprintf(&b, ": %s", f.Field)
	}
	if f.Value != "" {
		fmt.Fprintf(&b, ": %q", f.Value)
	}
	fmt.Fprintf(&b, ": %s", f.Message)
	return b.String()
}

// Faults is everything wrong in a file, in the order of its lines.
type Faults []Fault //nolint:errname // callers read configs.Faults as what it is

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Checker is a configuration that knows more rules than its types tell. Check is called after decoding and reports each
// fault with the key's path as in Fault.Field.
type Checker interface {
	Check(report func(field, message string))
}

// Read decodes a file into a pointer to a struct that already holds the defaults. The error is a Faults, or says why the
// file cannot be read.
func Read(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Decode(path, data, into)
}

// Decode is Read for text that is already at hand; name stands for the file in faults.
func Decode(name string, data []byte, into any) error {
	d := &decoder{file: name, places: map[string]place{}, failed: map[string]bool{}}
	root, err := parse(data)
	if err != nil {
		d.syntax(err)
		return d.result()
	}
	if root != nil {
		v := reflect.ValueOf(into).Elem()
		if known := keysOf(v.Type()); foreign(root, known) {
			// Nothing of it is shown: it may be a key or a list of passwords.
			return Faults{{File: name, Message: "this is no such configuration: want a mapping with the keys " + strings.Join(known, ", ")}}
		}
		d.value("", root, v, 0)
	}
	if c, ok := into.(Checker); ok {
		c.Check(d.check)
	}
	return d.result()
}

func parse(data []byte) (ast.Node, error) {
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, empty := doc.Body.(*ast.CommentGroupNode); empty {
			continue
		}
		if root != nil {
			return nil, errors.New("a second document begins; one file holds one configuration")
		}
		root = doc.Body
	}
	return root, nil
}

// foreign tells whether a file is something else than a configuration: no mapping, or one without any key that is known or
// resembles one.
func foreign(root ast.Node, known []string) bool {
	values, ok := pairs(root)
	if !ok {
		return true
	}
	for _, p := range values {
		if key := p.Key.GetToken().Value; slices.Contains(known, key) || nearest(key, known) != "" {
			return false
		}
	}
	return len(values) > 0
}

type place struct {
	line, column int
	text         string
}

type decoder struct {
	file   string
	faults Faults
	places map[string]place // of every key seen
	failed map[string]bool  // keys whose value could not be decoded
}

func (d *decoder) result() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return d.faults
}

func (d *decoder) syntax(err error) {
	fault := Fault{File: d.file, Message: err.Error()}
	var at *yaml.SyntaxError
	if errors.As(err, &at) {
		fault.Message = explain(at.Message)
		if at.Token != nil {
			fault.Line, fault.Column = at.Token.Position.Line, at.Token.Position.Column
		}
	}
	d.faults = append(d.faults, fault)
}

// explain says of a fault that the parser found what to write instead, and leaves out what the parser repeats of the file, which may
// be a part of a password.
func explain(found string) string {
	const rule = "indentation is by spaces, and the keys of one block stand in one column"
	switch {
	case strings.Contains(found, "character '\t'"), strings.Contains(found, "tab character"):
		return "there is a tab: " + rule
	case strings.Contains(found, "not allowed in this context"), strings.Contains(found, "non-map value"), strings.Contains(found, "unexpected map key"),
		strings.Contains(found, "unexpected key name"):
		return "this line, or the one below it, does not fit into what is around it: " + rule + "; a value with a colon and a space in it is written in quotes"
	case strings.Contains(found, "invalid header option"):
		return "after | or > the line ends: write the text below, or in quotes"
	}
	found, _, _ = strings.Cut(found, `"`)
	return strings.TrimRight(found, " ")
}

// check takes a Checker's report. A key that could not even be decoded is not reported a second time.
func (d *decoder) check(field, message string) {
	for parent := field; parent != ""; parent = parentOf(parent) {
		if d.failed[parent] {
			return
		}
	}
	p := d.places[field]
	for parent := field; p.line == 0 && parent != ""; {
		parent = parentOf(parent)
		p = place{line: d.places[parent].line, column: d.places[parent].column}
	}
	d.faults = append(d.faults, Fault{File: d.file, Line: p.line, Column: p.column, Field: field, Value: p.text, Message: message})
}

// parentOf is the path of the mapping or list that holds a key: a for a.b and a[0].
func parentOf(field string) string { return field[:max(0, strings.LastIndexAny(field, ".["))] }

// fault reports a value that cannot be decoded.
func (d *decoder) fault(field string, n ast.Node, message string) {
	d.failed[field] = true
	d.report(field, n, message)
}

func (d *decoder) report(field string, n ast.Node, message string) {
	p := position(n)
	d.faults = append(d.faults, Fault{File: d.file, Line: p.line, Column: p.column, Field: field, Value: p.text, Message: message})
}

func position(n ast.Node) place {
	if values, ok := pairs(n); ok && len(values) > 0 {
		n = values[0].Key
		p := position(n)
		return place{line: p.line, column: p.column}
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return place{}
	}
	p := place{line: t.Position.Line, column: t.Position.Column}
	if _, scalar := n.(ast.ScalarNode); scalar {
		p.text = shorten(withoutAccount(scalarText(n, t)))
	}
	return p
}

// hidden is the place of a secret, whose text is shown only where it names a file.
func (p place) hidden() place {
	if p.text != "" && !strings.HasPrefix(p.text, "file:") {
		p.text = Secret(p.text).String()
	}
	return p
}

// ofServer is the place of a server's address, where what is before an @ may be a password even without a scheme.
func (p place) ofServer() place {
	if at := strings.LastIndexByte(p.text, '@'); at >= 0 && !strings.Contains(p.text, "://") {
		p.text = Secret(p.text[:at]).String() + p.text[at:]
	}
	return p
}

// withoutAccount hides user and password of a server's URL, also of one that is too malformed to be parsed: what is shown of a
// fault may be pasted anywhere.
func withoutAccount(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	at := strings.LastIndexByte(rest, '@')
	if !ok || at < 0 || scheme == "file" {
		return text
	}
	return scheme + "://" + Secret(rest[:at]).String() + rest[at:]
}

func scalarText(n ast.Node, t *token.Token) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	return t.Value
}

const maxDepth = 32 // far deeper than any configuration; a guard against hostile files

func (d *decoder) value(field string, n ast.Node, v reflect.Value, depth int) {
	if depth > maxDepth {
		d.fault(field, n, fmt.Sprintf("nested deeper than %d levels", maxDepth))
		return
	}
	d.places[field] = position(n)
	if _, secret := v.Interface().(Secret); secret {
		d.places[field] = d.places[field].hidden()
	}
	if field == "url" || strings.HasSuffix(field, ".url") {
		d.places[field] = d.places[field].ofServer()
	}
	switch n.(type) {
	case *ast.NullNode:
		return // a key without a value keeps its default
	case *ast.AliasNode, *ast.AnchorNode, *ast.TagNode, *ast.MergeKeyNode:
		d.fault(field, n, "anchors, aliases and tags are not used here; write the value itself")
		return
	}
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		}
		d.value(field, n, fresh.Elem(), depth)
		v.Set(fresh)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(field, n, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(field, n, v, depth)
	case reflect.Map:
		d.dictionary(field, n, v, depth)
	case reflect.Slice:
		d.sequence(field, n, v, depth)
	default:
		d.scalar(field, n, v)
	}
}

func (d *decoder) text(field string, n ast.Node, u encoding.TextUnmarshaler) {
	if _, ok := n.(ast.ScalarNode); !ok {
		d.fault(field, n, "want one value, not a list or a mapping")
		return
	}
	if err := u.UnmarshalText([]byte(scalarText(n, n.GetToken()))); err != nil {
		d.fault(field, n, err.Error())
	}
}

func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// mostShown is as much of what a file holds as an error repeats.
const mostShown = 64

func shorten(text string) string {
	if r := []rune(text); len(r) > mostShown {
		return string(r[:mostShown]) + "…"
	}
	return text
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

func (d *decoder) mapping(field string, n ast.Node, v reflect.Value, depth int) {
	values, ok := pairs(n)
	if !ok {
		d.noMapping(field, n, "want a mapping with the keys "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	seen := map[string]int{}
	for _, p := range values {
		key := p.Key.GetToken().Value
		path := join(field, shorten(key))
		if line, twice := seen[key]; twice {
			d.report(path, p.Key, fmt.Sprintf("this key was already set in line %d; keep one", line))
			continue
		}
		seen[key] = p.Key.GetToken().Position.Line
		i := fieldOf(v.Type(), key)
		if i < 0 {
			at := position(p.Key)
			d.faults = append(d.faults, Fault{File: d.file, Line: at.line, Column: at.column, Field: path, Message: unknown(key, keysOf(v.Type()))})
			continue
		}
		d.value(path, p.Value, v.Field(i), depth+1)
	}
}

// noMapping reports a value that is none. What comes after a colon in it is not shown: it is meant to be the value of a key.
func (d *decoder) noMapping(field string, n ast.Node, message string) {
	p := position(n)
	if strings.Contains(p.text, ":") {
		p.text, message = "", message+", each with a colon and a space after it"
	}
	d.failed[field] = true
	d.faults = append(d.faults, Fault{File: d.file, Line: p.line, Column: p.column, Field: field, Value: p.text, Message: message})
}

func (d *decoder) dictionary(field string, n ast.Node, v reflect.Value, depth int) {
	values, ok := pairs(n)
	if !ok {
		d.noMapping(field, n, "want a mapping of names to values")
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, p := range values {
		key := p.Key.GetToken().Value
		path := join(field, key)
		if m.MapIndex(reflect.ValueOf(key)).IsValid() {
			d.report(path, p.Key, "this key was already set; keep one")
			continue
		}
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(path, p.Value, element, depth+1)
		m.SetMapIndex(reflect.ValueOf(key), element)
	}
	v.Set(m)
}

func (d *decoder) sequence(field string, n ast.Node, v reflect.Value, depth int) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fault(field, n, "want a list")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		d.value(fmt.Sprintf("%s[%d]", field, i), item, list.Index(i), depth+1)
	}
	v.Set(list)
}

func (d *decoder) scalar(field string, n ast.Node, v reflect.Value) {
	if _, ok := n.(ast.ScalarNode); !ok {
		d.fault(field, n, "want one value, not a list or a mapping")
		return
	}
	if err := setScalar(v, scalarText(n, n.GetToken())); err != nil {
		d.fault(field, n, err.Error())
	}
}

func setScalar(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 0, v.Type().Bits())
		if err != nil {
			return errors.New("want a whole number")
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 0, v.Type().Bits())
		if err != nil {
			return errors.New("want a whole number that is not negative")
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || f != f || f-f != 0 {
			return errors.New("want a number")
		}
		v.SetFloat(f)
	default:
		panic("configs: no way to decode " + v.Type().String())
	}
	return nil
}
