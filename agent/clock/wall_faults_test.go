//go:build faults

package clock_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
)

func TestOffsetFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "offset")
	t.Setenv("HEIMDALL_CLOCK_OFFSET_FILE", file)
	c := clock.New(clock.Config{Floor: time.Unix(0, 0)})
	for _, step := range []struct {
		text string
		want time.Duration
	}{{"", 0}, {"-1h\n", -time.Hour}, {"half writ", -time.Hour}, {"10s", 10 * time.Second}} {
		if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for off := time.Hour; off.Abs() > time.Second; off = c.Now().Sub(time.Now().Round(0)) - step.want {
			if time.Now().After(deadline) {
				t.Fatalf("%q: the clock is %v off", step.text, off)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if total, _ := c.Steps(); total != 2 {
		t.Errorf("%d steps, want 2", total)
	}
}
