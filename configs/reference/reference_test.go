package reference_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/configs/reference"
)

// A table has what stands beside a key, what goes on under that, and what stands above it; a key that is commented out is one.
func TestTable(t *testing.T) {
	const example = `# Of the file.

id: x                        # who
                             # it is

list:                        # several
  - name: a                  # of one
    # Above it. note: no key
    # size: 4                # how large
    deep:
      # Before
      # it:
      wait: 1h
`
	got := reference.Table(example, []configs.Setting{{Key: "id"}, {Key: "list[0].name"}, {Key: "list[0].size", Value: "0"}, {Key: "list[0].deep.wait", Value: "1h0m0s"}, {Key: "log", Value: "a|b"}})
	const want = "| key | default | meaning |\n|---|---|---|\n| `id` | | who it is |\n| `list` | | several |\n| `list[].name` | | of one |\n" +
		"| `list[].size` | | Above it. note: no key how large |\n| `list[].deep.wait` | `1h` | Before it: |\n| `log` | `a|b` |  |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type settings struct {
	Name   string            `yaml:"name"`
	Secret configs.Secret    `yaml:"secret"`
	Wait   *configs.Duration `yaml:"wait"`
	List   []struct {
		Size configs.Bytes `yaml:"size"`
	} `yaml:"list"`
	Tags   []string `yaml:"tags"`
	hidden int
}

func TestSettings(t *testing.T) {
	s := settings{Name: "a", Secret: "hush", Tags: []string{"b", "c"}, hidden: 1}
	s.List = append(s.List, struct {
		Size configs.Bytes `yaml:"size"`
	}{1 << 20})
	want := []configs.Setting{
		{Key: "name", Value: "a"}, {Key: "secret", Value: "***"}, {Key: "wait"}, {Key: "list[0].size", Value: "1 MiB"}, {Key: "tags", Value: "[b c]"},
	}
	if diff := cmp.Diff(want, configs.Settings(s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
