package protocol_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulgidus/heimdall/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden payloads of the current version, and those printed in README.md")

// current is the folder of the version under development. Those of released versions are never rewritten.
const current = "testdata/1.0"

func TestGolden_CurrentPayloads(t *testing.T) {
	for name, m := range golden(t) {
		t.Run(name, func(t *testing.T) {
			if err := validate(m); err != nil {
				t.Fatalf("the golden message is not valid: %v", err)
			}
			compareGolden(t, name+".pb", encode(t, m))
			compareGolden(t, name+".json", append(marshal(t, m), '\n'))
		})
	}
	t.Run("batch", func(t *testing.T) {
		var payloads [][]byte
		for _, name := range slices.Sorted(maps.Keys(golden(t))) {
			if rec, ok := golden(t)[name].(*protocol.Record); ok {
				payloads = append(payloads, encode(t, rec))
			}
		}
		batch, err := protocol.EncodeBatch(payloads)
		if err != nil {
			t.Fatal(err)
		}
		// Another version of the compressor may write other bytes for the same records, so these are only decoded.
		if *update {
			compareGolden(t, "batch.zst", batch)
		}
	})
}

// compareGolden compares with a golden file, or rewrites it and prints what changed.
func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join(current, name)
	want, err := os.ReadFile(path)
	if *update {
		if !bytes.Equal(want, got) {
			t.Logf("%s (-old +new):\n%s", path, cmp.Diff(string(want), string(got)))
		}
		if err := os.MkdirAll(current, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (-want +got):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

// Every payload of every version decodes, is valid, and says the same as protobuf and as JSON.
func TestGolden_AllVersionsDecode(t *testing.T) {
	files, err := filepath.Glob("testdata/[0-9]*/*.pb")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden payloads: %v", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			base := strings.TrimSuffix(file, ".pb")
			kind, _, _ := strings.Cut(filepath.Base(base), "-")
			var sort proto.Message = new(protocol.Record)
			switch kind {
			case "ack":
				sort = new(protocol.Ack)
			case "command":
				sort = new(protocol.Command)
			}
			fromProto, err := decodeAs(sort, read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(fromProto); err != nil {
				t.Error(err)
			}
			if rec, ok := fromProto.(*protocol.Record); ok && string(rec.Kind()) != kind {
				t.Errorf("kind is %q, want %q", rec.Kind(), kind)
			}
			fromJSON, err := decodeAs(sort, read(t, base+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fromProto, fromJSON, protocmp.Transform()); diff != "" {
				t.Errorf("protobuf and JSON differ (-protobuf +json):\n%s", diff)
			}
		})
	}
}

func TestGolden_AllBatchesDecode(t *testing.T) {
	files, err := filepath.Glob("testdata/[0-9]*/batch.zst")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden batches: %v", err)
	}
	for _, file := range files {
		records, err := protocol.DecodeBatch(read(t, file))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var got []protocol.Kind
		for _, rec := range records {
			got = append(got, rec.Kind())
			if err := protocol.Validate(rec, now); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		want := []protocol.Kind{"detection", "gap", "health", "iq", "measurement", "reply", "reply", "site", "spectrum"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: kinds differ (-want +got):\n%s", file, diff)
		}
	}
}

// Every number in JSON has its unit in its name, or is a count or a ratio.
func TestGolden_NumbersNameTheirUnit(t *testing.T) {
	unit := regexp.MustCompile(`_(hz|s|db|dbfs|dbfs_hz|dbm|dbm_hz|m|deg|c|ppm|bins|fraction|count|bytes|total)$`)
	bare := []string{
		"seq", "last_seq", "samples", "lost_samples", "averages", "records", "bytes", "index", "first_sample", "chunks", "sample", "lost",
		"scale", "progress", "priority", "dc_i", "dc_q",
	}
	for name, m := range golden(t) {
		var v any
		if err := json.Unmarshal(marshal(t, m), &v); err != nil {
			t.Fatal(err)
		}
		var walk func(path string, v any)
		walk = func(path string, v any) {
			object, _ := v.(map[string]any)
			for member, value := range object {
				if _, number := value.(float64); number && !unit.MatchString(member) && !slices.Contains(bare, member) {
					t.Errorf("%s: %s%s is a number without a unit", name, path, member)
				}
				if list, ok := value.([]any); ok {
					for _, e := range list {
						walk(path+member+"[].", e)
					}
				}
				walk(path+member+".", value)
			}
		}
		walk("", v)
	}
}

// readmePayload is one golden payload as README.md prints it.
var readmePayload = regexp.MustCompile("(?s)<!-- golden ([a-z0-9-]+) -->\n```json\n(.*?)```")

// README.md prints one golden payload of each sort; only the white space may differ.
func TestReadme_PrintsTheGoldenPayloads(t *testing.T) {
	text := read(t, "README.md")
	if *update {
		text = readmePayload.ReplaceAllFunc(text, func(block []byte) []byte {
			name := string(readmePayload.FindSubmatch(block)[1])
			return fmt.Appendf(nil, "<!-- golden %s -->\n```json\n%s\n```", name, pretty(t, read(t, filepath.Join(current, name+".json"))))
		})
		if err := os.WriteFile("README.md", text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	printed := make(map[string]bool)
	for _, m := range readmePayload.FindAllSubmatch(text, -1) {
		name := string(m[1])
		printed[name] = true
		var got bytes.Buffer
		if err := json.Compact(&got, m[2]); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := strings.TrimSpace(string(read(t, filepath.Join(current, name+".json"))))
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Errorf("%s differs from its golden file (-want +got):\n%s", name, diff)
		}
	}
	for name := range golden(t) {
		if !printed[name] {
			t.Errorf("README.md does not print %s", name)
		}
	}
}

// pretty breaks lines at members, but not inside arrays of numbers.
func pretty(t *testing.T, payload []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(payload), "", "  "); err != nil {
		t.Fatal(err)
	}
	numbers := regexp.MustCompile(`\[[\s\d.,-]+\]`)
	return numbers.ReplaceAllFunc(b.Bytes(), func(list []byte) []byte {
		return []byte(strings.ReplaceAll(strings.Join(strings.Fields(string(list)), ""), ",", ", "))
	})
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
