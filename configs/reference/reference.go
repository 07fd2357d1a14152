// Package reference makes the tables of all keys in configs/README.md, for tests: keys and defaults come from the programs, what
// they mean from the comments of the shipped examples.
package reference

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
)

// Check compares the table of a program in configs/README.md with what it is, or writes it again. defaults has an element in each
// list and a value behind each pointer, so that every key is there.
func Check(t *testing.T, program string, defaults any, update bool) {
	t.Helper()
	const page = "../configs/README.md"
	name := strings.TrimPrefix(program, "heimdall-")
	example, err := os.ReadFile("../configs/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	heading := "## " + program + "\n\n"
	before, rest, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("%s has no section %s", page, program)
	}
	got, after, more := strings.Cut(rest, "\n## ")
	if more {
		after = "\n## " + after
	}
	want := Table(string(example), configs.Settings(defaults))
	for line := range strings.Lines(want) {
		if strings.HasSuffix(line, "|  |\n") {
			t.Errorf("the example says nothing of the key in the row %s", line)
		}
	}
	if update {
		if err := os.WriteFile(page, []byte(before+heading+want+after), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not of this program and its example; write it again with `go test ./%s -run TestReference -update` (-want +got):\n%s", page, name, diff)
	}
}

// Table has a row for each setting, and for what settings are under.
func Table(example string, settings []configs.Setting) string {
	keys := map[string]bool{}
	for i := range settings {
		settings[i].Key = strings.ReplaceAll(settings[i].Key, "[0]", "[]")
		for key := settings[i].Key; key != ""; key = parent(key) {
			keys[key] = true
		}
	}
	said := meanings(example, keys)
	var table strings.Builder
	table.WriteString("| key | default | meaning |\n|---|---|---|\n")
	told := map[string]bool{}
	for _, s := range settings {
		var above []string
		for key := parent(s.Key); key != ""; key = parent(key) {
			if said[key] != "" && !told[key] {
				above = append([]string{key}, above...)
				told[key] = true
			}
		}
		for _, key := range above {
			fmt.Fprintf(&table, "| `%s` | | %s |\n", key, cell(said[key]))
		}
		value := " `" + zeros.ReplaceAllString(s.Value, "$1") + "`"
		if nothing[s.Value] {
			value = ""
		}
		fmt.Fprintf(&table, "| `%s` |%s | %s |\n", s.Key, value, cell(said[s.Key]))
	}
	return table.String()
}

// nothing are values that say no more than that none is set.
var nothing = map[string]bool{"": true, "0": true, "0 Hz": true, "0 B": true, "0s": true, "[]": true}

// zeros are what the text of a duration ends with.
var zeros = regexp.MustCompile(`^(\d+h|\d+m)(?:0m)?0s$`)

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// parent is the key that a key is under: a[] for a[].b, a for a[] and a.b.
func parent(key string) string {
	if list, ok := strings.CutSuffix(key, "[]"); ok {
		return list
	}
	return key[:max(0, strings.LastIndexByte(key, '.'))]
}

var (
	// keyLine is a key of an example with its value and comment; it may be commented out itself.
	keyLine = regexp.MustCompile(`^( *)(?:# )?( *(?:- )?)([a-z_0-9]+):(| .*)$`)
	prose   = regexp.MustCompile(`^( *)# (.*)$`)
)

// place is a key of an example.
type place struct {
	column int // of its name
	key    string
}

// reader goes through an example line by line.
type reader struct {
	keys    map[string]bool
	said    map[string]string
	path    []place
	pending []string // lines of comment, before the key that they are of
	last    string   // the key that comments to the right of keys go on to be of
}

// aside is from what column on a comment stands beside keys, not above one.
const aside = 16

// meanings are what an example says of each key.
func meanings(example string, keys map[string]bool) map[string]string {
	r := reader{keys: keys, said: map[string]string{}}
	for line := range strings.Lines(example) {
		line = strings.TrimRight(line, "\n")
		if m := keyLine.FindStringSubmatch(line); m != nil && r.key(len(m[1])+len(m[2]), m[3], m[4]) {
			continue
		}
		m := prose.FindStringSubmatch(line)
		switch {
		case m == nil:
			r.pending, r.last = nil, ""
		case r.last != "" && len(m[1]) >= aside:
			r.said[r.last] += " " + m[2]
		default:
			r.pending = append(r.pending, m[2])
			r.last = ""
		}
	}
	return r.said
}

// key takes a line of a key that there is.
func (r *reader) key(column int, name, value string) bool {
	path := r.path
	for len(path) > 0 && path[len(path)-1].column >= column {
		path = path[:len(path)-1]
	}
	full := name
	if len(path) > 0 {
		above := path[len(path)-1].key
		if full = above + "." + name; !r.keys[full] {
			full = above + "[]." + name
		}
	}
	if !r.keys[full] {
		return false
	}
	r.path = append(path, place{column, full})
	_, comment, _ := strings.Cut(" "+value, " # ")
	r.said[full] = strings.Join(strings.Fields(strings.Join(append(r.pending, comment), " ")), " ")
	r.pending, r.last = nil, full
	return true
}
