package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// A real agent starts on a spool that is damaged in any way, and answers within half a minute.
func TestDamagedSpool_TheAgentRuns(t *testing.T) {
	whole := t.TempDir()
	fillSpool(t, whole, 2000)
	file := readFile(t, filepath.Join(whole, "spool.db"))
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for name, damage := range map[string]func([]byte) []byte{
		"bit": func(b []byte) []byte {
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			return b
		},
		"page":     func(b []byte) []byte { clear(b[random.IntN(len(b)/4096)*4096:][:4096]); return b },
		"truncate": func(b []byte) []byte { return b[:random.IntN(len(b))] },
		"metas": func(b []byte) []byte {
			b[16+random.IntN(64)] ^= 1
			b[4096+16+random.IntN(64)] ^= 1
			return b
		},
		"garbage": func([]byte) []byte { return []byte(strings.Repeat("garbage ", 5000)) },
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			if err := os.CopyFS(state, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(state, "spool.db"), damage(append([]byte(nil), file...)), 0o600); err != nil {
				t.Fatal(err)
			}
			config := writeFile(t, "north.yaml", fmt.Sprintf(`
station: {id: north, position: {lat: 47.1721, lon: 8.42683, publish: exact}}
mqtt: {url: "mqtt://%s"}
receivers: [{id: r0, source: %q, history: 16MiB}]
spool: {path: %q, limit: 64MiB}
`, freeAddress(t), simulated(t, "north"), state))
			start(t, "heimdall-agent", "run", "--config", config)
			eventually(t, 30*time.Second, "the agent answers", func() error {
				if _, err := os.Stat(filepath.Join(state, "control.sock")); err != nil {
					return err // it does not run yet
				}
				if _, errOut, code := run(t, "heimdall-agent", "status", "--config", config); code != 0 {
					return fmt.Errorf("status ends with %d: %s", code, errOut)
				}
				return nil
			})
		})
	}
}

// fillSpool makes a spool with records in all lanes, as an agent that was not heard for a while leaves it.
func fillSpool(t *testing.T, dir string, records int) {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{Station: "north"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	lanes := spool.Lanes()
	for i := range records {
		lane := lanes[i%len(lanes)]
		if _, err := s.Queue(t.Context(), lane, protocol.Kind(lane), fmt.Appendf(nil, "record %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
