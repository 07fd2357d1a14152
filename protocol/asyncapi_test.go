package protocol_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/fulgidus/heimdall/protocol"
)

const generatedSchemas = "    # From here on written by go test ./protocol -update, out of heimdall.proto and resource.go.\n"

type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Info     struct {
		Version string `yaml:"version"`
	} `yaml:"info"`
	Channels map[string]struct {
		Address    string         `yaml:"address"`
		Parameters map[string]any `yaml:"parameters"`
		Messages   map[string]any `yaml:"messages"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Action    string            `yaml:"action"`
		Channel   map[string]string `yaml:"channel"`
		Publisher string            `yaml:"x-publisher"`
		Bindings  map[string]struct {
			QoS    int  `yaml:"qos"`
			Retain bool `yaml:"retain"`
		} `yaml:"bindings"`
	} `yaml:"operations"`
	Components map[string]map[string]any `yaml:"components"`
}

func readAsyncAPI(t *testing.T) (asyncAPI, []byte) {
	t.Helper()
	text := read(t, "asyncapi.yaml")
	if *update {
		written, _, ok := bytes.Cut(text, []byte(generatedSchemas))
		if !ok {
			t.Fatal("asyncapi.yaml has lost the line that the schemas follow")
		}
		text = append(append(bytes.Clone(written), generatedSchemas...), schemas()...)
		if err := os.WriteFile("asyncapi.yaml", text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var doc asyncAPI
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc, text
}

// patterns replaces the names in allTopics by the parameters of the channels.
var patterns = strings.NewReplacer("/giaveno/", "/{station}/", "/9f3c5a1e77b0c214", "/{spool}", "/main/", "/{collector}/")

func TestAsyncAPI_HasEveryTopic(t *testing.T) {
	doc, _ := readAsyncAPI(t)
	if doc.AsyncAPI != "3.0.0" || doc.Info.Version+"/" != strings.TrimPrefix(current, "testdata/")+".0/" {
		t.Errorf("asyncapi %s of version %s", doc.AsyncAPI, doc.Info.Version)
	}
	want := make(map[string]bool)
	for topic, sort := range allTopics(protocol.Topics{}) {
		if sort.Class == protocol.TopicJSON {
			topic = strings.Replace(topic, string(sort.Kind), "{kind}", 1)
		}
		want[patterns.Replace(topic)] = true
	}
	got := make(map[string]bool)
	for _, c := range doc.Channels {
		got[c.Address] = true
		var inAddress []string
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(c.Address, -1) {
			inAddress = append(inAddress, m[1])
		}
		slices.Sort(inAddress)
		if diff := cmp.Diff(inAddress, slices.Sorted(maps.Keys(c.Parameters))); diff != "" {
			t.Errorf("%s: parameters (-address +declared):\n%s", c.Address, diff)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("topics (-code +asyncapi):\n%s", diff)
	}
	received := make(map[string]bool)
	for _, o := range doc.Operations {
		received[strings.TrimPrefix(o.Channel["$ref"], "#/channels/")] = true
	}
	for name := range doc.Channels {
		if !received[name] {
			t.Errorf("no operation receives %s", name)
		}
	}
}

// The tables of README.md and asyncapi.yaml agree in who publishes what, how.
func TestReadme_TopicsAreThoseOfAsyncAPI(t *testing.T) {
	doc, _ := readAsyncAPI(t)
	row := regexp.MustCompile("(?m)^\\| `(heimdall/v1/[^`]+)` \\| (agent|collector)[^|]* \\| ([01]) \\| (yes|no) \\|")
	got := make(map[string]string)
	for _, m := range row.FindAllStringSubmatch(string(read(t, "README.md")), -1) {
		got[strings.Replace(m[1], "{id}", "{collector}", 1)] = fmt.Sprintf("%s, QoS %s, retained: %s", m[2], m[3], m[4])
	}
	want := make(map[string]string)
	for _, o := range doc.Operations {
		retained := "no"
		if o.Bindings["mqtt"].Retain {
			retained = "yes"
		}
		address := doc.Channels[strings.TrimPrefix(o.Channel["$ref"], "#/channels/")].Address
		want[address] = fmt.Sprintf("%s, QoS %d, retained: %s", o.Publisher, o.Bindings["mqtt"].QoS, retained)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("topics (-asyncapi +README):\n%s", diff)
	}
}

func TestAsyncAPI_HasEveryMessage(t *testing.T) {
	doc, text := readAsyncAPI(t)
	_, written, _ := bytes.Cut(text, []byte(generatedSchemas))
	if diff := cmp.Diff(schemas(), string(written)); diff != "" {
		t.Errorf("schemas differ from heimdall.proto; run go test ./protocol -update (-want +got):\n%s", diff)
	}
	for _, kind := range protocol.Kinds() {
		if doc.Components["messages"][string(kind)+"Json"] == nil || doc.Channels[string(kind)].Messages[string(kind)+"Json"] == nil {
			t.Errorf("no message for %s", kind)
		}
	}
	for _, m := range regexp.MustCompile(`\$ref: '?#/([\w/]+)`).FindAllStringSubmatch(string(text), -1) {
		parts := strings.Split(m[1], "/")
		switch {
		case parts[0] == "channels" && doc.Channels[parts[1]].Address != "":
		case parts[0] == "components" && doc.Components[parts[1]][parts[2]] != nil:
		default:
			t.Errorf("%s leads nowhere", m[0])
		}
	}
}

// schemas are the JSON Schemas of all messages in the dialect, as YAML.
func schemas() string {
	var b strings.Builder
	messages := protocol.File_heimdall_proto.Messages()
	for i := range messages.Len() {
		if md := messages.Get(i); md.Name() != "Records" && md.Name() != "SeqRange" {
			messageSchema(&b, md)
		}
	}
	b.WriteString("    SeqRange:\n      description: Both ends belong to it.\n      type: array\n      items: {type: integer, minimum: 1}\n      minItems: 2\n      maxItems: 2\n")
	for _, v := range []any{
		protocol.Info{}, protocol.State{}, protocol.Position{}, protocol.ReceiverInfo{}, protocol.PlanStep{}, protocol.ReceiverState{}, protocol.ReceiverAway{}, protocol.StepState{},
	} {
		structSchema(&b, reflect.TypeOf(v))
	}
	return b.String()
}

func messageSchema(b *strings.Builder, md protoreflect.MessageDescriptor) {
	fmt.Fprintf(b, "    %s:\n      type: object\n      properties:\n", md.Name())
	fields := md.Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if md.Name() == "Spectrum" && slices.Contains([]string{"offset_dbfs_hz", "resolution_db", "bins", "codec", "levels"}, string(fd.Name())) {
			continue
		}
		schema := fieldSchema(fd)
		if fd.IsList() {
			schema = "{type: array, items: " + schema + "}"
		}
		fmt.Fprintf(b, "        %s: %s\n", fd.Name(), schema)
	}
	if md.Name() == "Spectrum" {
		b.WriteString("        dbfs_hz: {type: array, items: {type: number}}\n")
	}
}

func fieldSchema(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return fmt.Sprintf("{$ref: '#/components/schemas/%s'}", fd.Message().Name())
	case protoreflect.EnumKind:
		var names []string
		values := fd.Enum().Values()
		prefix := strings.TrimSuffix(string(values.Get(0).Name()), "UNSPECIFIED")
		for i := 1; i < values.Len(); i++ {
			names = append(names, strings.ToLower(strings.TrimPrefix(string(values.Get(i).Name()), prefix)))
		}
		return "{enum: [" + strings.Join(names, ", ") + "]}"
	case protoreflect.BytesKind:
		if name := fd.Name(); name == "spool" || name == "sha512" {
			return fmt.Sprintf("{type: string, pattern: '^[0-9a-f]{%d}$'}", map[protoreflect.Name]int{"spool": 16, "sha512": 128}[name])
		}
		return "{type: string, contentEncoding: base64}"
	case protoreflect.StringKind:
		return "{type: string}"
	case protoreflect.BoolKind:
		return "{type: boolean}"
	case protoreflect.Sfixed64Kind:
		return "{type: string, format: date-time}"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "{type: number}"
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return "{type: integer, minimum: 0}"
	default:
		return "{type: integer}"
	}
}

func structSchema(b *strings.Builder, t reflect.Type) {
	fmt.Fprintf(b, "    %s:\n      type: object\n", t.Name())
	var required []string
	var properties strings.Builder
	for i := range t.NumField() {
		name, option, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "history_from" {
			continue // of what a collector answers, not of what travels
		}
		if option == "" {
			required = append(required, name)
		}
		fmt.Fprintf(&properties, "        %s: %s\n", name, typeSchema(t.Field(i).Type))
	}
	if len(required) > 0 {
		fmt.Fprintf(b, "      required: [%s]\n", strings.Join(required, ", "))
	}
	b.WriteString("      properties:\n" + properties.String())
}

func typeSchema(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem())
	case reflect.Struct:
		return fmt.Sprintf("{$ref: '#/components/schemas/%s'}", t.Name())
	case reflect.Slice:
		return "{type: array, items: " + typeSchema(t.Elem()) + "}"
	case reflect.Map:
		return "{type: object, additionalProperties: " + typeSchema(t.Elem()) + "}"
	case reflect.Bool:
		return "{type: boolean}"
	case reflect.Float64:
		return "{type: number}"
	case reflect.Uint64:
		return "{type: integer, minimum: 0}"
	default:
		return "{type: string}"
	}
}
