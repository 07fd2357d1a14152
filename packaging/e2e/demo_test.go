package e2e_test

import (
	"strings"
	"sync"
	"testing"
)

// TestDemo runs the demo twice at once, as two people on one machine would: each shows seven stations with a SNR, a start and a
// recording, and leaves with 0.
func TestDemo(t *testing.T) {
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			out, errOut, code := run(t, "heimdall-collector", "demo", "--exit")
			if code != 0 {
				t.Errorf("the demo ends with %d\n%s%s", code, out, errOut)
				return
			}
			for _, want := range []string{"7 of 7 stations online", "done: 7 of 7"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, id := range []string{"giaveno", "montanaro", "torino", "coazze", "giovi", "genova", "milano"} {
				row := lineWith(out, "  "+id)
				if fields := strings.Fields(row); len(fields) < 9 || strings.Contains(row, " - ") || strings.Contains(row, "none") {
					t.Errorf("row of %s: %q", id, row)
				}
			}
		})
	}
	both.Wait()
}

func lineWith(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
