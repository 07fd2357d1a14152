package radio_test

import (
	"os"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
)

// TestReadme_NamesEveryParameter takes the parameters from the drivers' own answer to an unknown one.
func TestReadme_NamesEveryParameter(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{
		"file:x?zzz=1",
		"sim:x?station=a&zzz=1",
		"kiwi://x?zzz=1",
		"rtlsdr://0?zzz=1",
		"rtltcp://x?zzz=1",
		"ka9q://x/1?zzz=1",
		"spyserver://x?zzz=1",
		"owrx://127.0.0.1?zzz=1",
		"exec:x?format=cu8&center=1M&rate=1M&zzz=1",
		"stdin:?format=cu8&center=1M&rate=1M&zzz=1",
	} {
		_, err := radio.Open(source, radio.Options{})
		faults := radio.Faults(err)
		if len(faults) != 1 {
			t.Fatalf("%s: got %v, want one fault", source, err)
		}
		_, list, _ := strings.Cut(faults[0].Mend, "takes ")
		for _, name := range strings.Split(list, ", ") {
			if !strings.Contains(string(text), "| `"+name+"` |") {
				t.Errorf("%s: README.md has no row for %s", source, name)
			}
		}
	}
}

// TestReadme_SceneIsValid reads the scene that is printed there.
func TestReadme_SceneIsValid(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	scene, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("README.md prints no scene")
	}
	if _, err := radio.DecodeScene("README.md", []byte(scene)); err != nil {
		t.Error(err)
	}
}
