package prometheus_test

import (
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/fulgidus/heimdall/packaging/servers"
)

// read decodes a file of this folder.
func read[T any](t *testing.T, name string) (v T) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRules_EachAlertFires(t *testing.T) {
	for _, args := range [][]string{{"check", "config", "heimdall.yaml"}, {"test", "rules", "heimdall.tests.yaml"}} {
		if says, err := servers.Promtool(t, "", args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, says)
		}
	}
	tested := map[string]bool{}
	for _, test := range read[struct{ Tests []struct{ Name string } }](t, "heimdall.tests.yaml").Tests {
		tested[test.Name] = true
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, group := range read[struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations struct{ Summary, Runbook string }
			}
		}
	}](t, "heimdall.rules.yaml").Groups {
		for _, rule := range group.Rules {
			alerts++
			if !tested[rule.Alert] || rule.Annotations.Summary == "" || rule.Annotations.Runbook == "" || !strings.Contains(string(page), "| `"+rule.Alert+"` |") {
				t.Errorf("%s: wants a test, a summary, a runbook and a line in README.md", rule.Alert)
			}
		}
	}
	if alerts < 8 || alerts != len(tested) {
		t.Errorf("%d alerts and %d tests", alerts, len(tested))
	}
}
