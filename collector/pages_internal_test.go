package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/fulgidus/heimdall/configs"
)

// shownCommands are those that pages show in a line of text, without what differs from place to place.
var shownCommands = regexp.MustCompile("`(?:sudo )?" + programName + " ([^`…{\\[|]+)`")

// Each command that a page shows is one that there is.
func TestPages_ShowCommandsThatThereAre(t *testing.T) {
	shown := 0
	for _, page := range []string{"README.md", "../README.md", "../packaging/README.md", "../packaging/TROUBLESHOOTING.md", "../packaging/prometheus/heimdall.rules.yaml"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shownCommands.FindAllStringSubmatch(string(text), -1) {
			if shown++; strings.Contains(m[1], "--help") {
				continue
			}
			if err := parses(strings.Fields(m[1])); err != nil && !strings.HasPrefix(err.Error(), "expected ") { // it is named, without what it is to do
				t.Errorf("%s shows %s %s: %v", page, programName, m[1], err)
			}
		}
	}
	if shown < 10 {
		t.Errorf("%d commands", shown)
	}
}

func parses(args []string) error {
	line := commandLine{Export: newExportCmd()}
	parser, err := kong.New(&line, kong.Name(programName), kong.TypeMapper(reflect.TypeFor[configs.Hertz](), kong.MapperFunc(readHertz)))
	if err == nil {
		_, err = parser.Parse(args)
	}
	return err
}
