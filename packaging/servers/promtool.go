package servers

import (
	"os/exec"
	"strings"
	"testing"
)

// Promtool runs Prometheus' own tool to its end, with a text as its input, and gives what it says.
func Promtool(tb testing.TB, input string, args ...string) (string, error) {
	tb.Helper()
	path, err := find("promtool")
	cmd := exec.CommandContext(tb.Context(), must(tb, path, err), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
