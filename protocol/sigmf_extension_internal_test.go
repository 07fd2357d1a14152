package protocol

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ours lists the members of our namespace that a type writes.
func ours(types ...reflect.Type) []string {
	var names []string
	for _, t := range types {
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); strings.HasPrefix(name, sigmfNamespace+":") {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestSigMFExtension_SaysWhatIsWritten compares the extension's two files with the types: what is written is described,
// nothing else is.
func TestSigMFExtension_SaysWhatIsWritten(t *testing.T) {
	type object struct {
		Properties map[string]any
		Items      *object
	}
	var schema struct {
		Title      string
		Properties map[string]object
	}
	text, err := os.ReadFile("heimdall.sigmf-ext.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("heimdall.sigmf-ext.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(schema.Title, sigmfNamespaceVersion) || !strings.Contains(string(page), "version "+sigmfNamespaceVersion+"\n") {
		t.Errorf("not of version %s: %s", sigmfNamespaceVersion, schema.Title)
	}
	for section, written := range map[string][]string{
		"global": ours(reflect.TypeFor[SigMFGlobal]()), "captures": ours(reflect.TypeFor[SigMFCapture]()),
		"annotations": ours(reflect.TypeFor[SigMFAnnotation]()), "collection": ours(reflect.TypeFor[SigMFCollection]()),
	} {
		o := schema.Properties[section]
		if o.Items != nil {
			o = *o.Items
		}
		var described []string
		for name := range o.Properties {
			described = append(described, name)
		}
		slices.Sort(described)
		if diff := cmp.Diff(written, described); diff != "" {
			t.Errorf("%s (-written +schema):\n%s", section, diff)
		}
		_, part, _ := strings.Cut(strings.ToLower(string(page)), "\n## "+section+"\n")
		part, _, _ = strings.Cut(part, "\n## ")
		var explained []string
		for line := range strings.Lines(part) {
			if rest, ok := strings.CutPrefix(line, "| `"); ok {
				name, _, _ := strings.Cut(rest, "`")
				explained = append(explained, name)
			}
		}
		slices.Sort(explained)
		if diff := cmp.Diff(written, explained); diff != "" {
			t.Errorf("%s (-written +page):\n%s", section, diff)
		}
	}
	qualities := schema.Properties["global"].Properties["heimdall:time_quality"].(map[string]any)["enum"].([]any)
	var want []any
	for n := range TimeQuality_name {
		if q := TimeQuality(n); q != TimeQuality_TIME_QUALITY_UNSPECIFIED {
			want = append(want, q.Short())
		}
	}
	byText := func(a, b any) int { return strings.Compare(a.(string), b.(string)) }
	slices.SortFunc(want, byText)
	slices.SortFunc(qualities, byText)
	if diff := cmp.Diff(want, qualities); diff != "" {
		t.Errorf("time qualities (-types +schema):\n%s", diff)
	}
}
