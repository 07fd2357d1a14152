package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulgidus/heimdall/protocol"
)

// The CSV form of a list is RFC 4180: UTF-8, lines end in CR LF, a header. An item's members are the columns, in a fixed
// order; a member inside a member is named after both, with a dot between. A list and whatever has no fixed members is
// its JSON in one cell. What is absent is an empty cell. A text that spreadsheets would run as a formula has an apostrophe before
// it, which they take for the mark of a text.

// column is one column: a member of an item, or one inside a member.
type column struct {
	name string
	path []string
}

// recordColumns are the columns of a kind of record: its own members, then received and late, then those of its body.
// As in protocol.FlatJSON, a body's member that is named like one of the record's has the kind before it.
func recordColumns(kind protocol.Kind) []column {
	var columns []column
	var body protoreflect.MessageDescriptor
	fields := (&protocol.Record{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		name := string(fd.Name())
		switch {
		case fd.ContainingOneof() == nil || fd.ContainingOneof().IsSynthetic():
			columns = append(columns, column{name, []string{name}})
		case name == string(kind):
			body = fd.Message()
		}
	}
	columns = append(columns, column{"received", []string{"received"}}, column{"late", []string{"late"}})
	for _, c := range messageColumns(body) {
		if fields.ByName(protoreflect.Name(c.name)) != nil {
			c.name = string(kind) + "_" + c.name
		}
		columns = append(columns, column{c.name, append([]string{string(kind)}, c.path...)})
	}
	return columns
}

// messageColumns are the columns of a message.
func messageColumns(md protoreflect.MessageDescriptor) []column {
	var columns []column
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		name := string(fd.Name())
		switch {
		case md.Name() == "Spectrum" && codesLevels(name): // in JSON the levels are numbers
		case fd.Kind() == protoreflect.MessageKind && !fd.IsList():
			columns = append(columns, inside(name, messageColumns(fd.Message()))...)
		default:
			columns = append(columns, column{name, []string{name}})
		}
	}
	if md.Name() == "Spectrum" {
		columns = append(columns, column{"dbfs_hz", []string{"dbfs_hz"}})
	}
	return columns
}

// goColumns are the columns of a Go type.
func goColumns(t reflect.Type) []column {
	var columns []column
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue // it is not sent
		}
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Kind() == reflect.Struct {
			columns = append(columns, inside(name, goColumns(kind))...)
			continue
		}
		columns = append(columns, column{name, []string{name}})
	}
	return columns
}

// inside are columns of a member.
func inside(member string, columns []column) []column {
	for i, c := range columns {
		columns[i] = column{member + "." + c.name, append([]string{member}, c.path...)}
	}
	return columns
}

// tree finds an item's members: it is the members of one object, each of which is a cell or a tree itself.
type tree struct {
	cell    int
	members map[string]*tree // nil for a cell
}

func newTree(columns []column) *tree {
	root := &tree{}
	for i, c := range columns {
		at := root
		for _, name := range c.path {
			if at.members == nil {
				at.members = map[string]*tree{}
			}
			if at.members[name] == nil {
				at.members[name] = &tree{cell: i}
			}
			at = at.members[name]
		}
	}
	return root
}

// fill puts the members of an object into the cells.
func (t *tree) fill(object json.RawMessage, cells []json.RawMessage) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return fmt.Errorf("read an item: %w", err)
	}
	for name, value := range members {
		switch member := t.members[name]; {
		case member == nil:
		case member.members == nil:
			cells[member.cell] = value
		default:
			if err := member.fill(value, cells); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendCell appends a JSON value: text as it is, null as nothing, everything else as JSON.
func appendCell(to []byte, value json.RawMessage) ([]byte, error) {
	if len(value) == 0 || string(value) == "null" {
		return to, nil
	}
	if value[0] != '"' {
		return appendText(to, value), nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil, fmt.Errorf("read a text: %w", err)
	}
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		text = "'" + text
	}
	return appendText(to, []byte(text)), nil
}

// appendText appends a cell, in quotes where it needs them.
func appendText(to, text []byte) []byte {
	if !bytes.ContainsAny(text, ",\"\r\n") {
		return append(to, text...)
	}
	to = append(to, '"')
	for _, c := range text {
		if c == '"' {
			to = append(to, '"')
		}
		to = append(to, c)
	}
	return append(to, '"')
}

// appendComma appends the comma before a cell but the first.
func appendComma(to []byte, cell int) []byte {
	if cell == 0 {
		return to
	}
	return append(to, ',')
}
