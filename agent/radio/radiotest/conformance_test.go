package radiotest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// TestConformance runs the suite on the plainest of drivers, with samples that were lost by its own account.
func TestConformance(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := file("x_433M_250k.cu8", make([]byte, 500000))
	lossy := file("x.sigmf-meta", []byte(`{"global": {"core:datatype": "cu8", "core:sample_rate": 250e3, "core:version": "1.2.0"}, "annotations": [], "captures": [
		{"core:sample_start": 0, "core:global_index": 0, "core:datetime": "2025-01-01T00:00:00Z"},
		{"core:sample_start": 20000, "core:global_index": 21000}]}`))
	file("x.sigmf-data", make([]byte, 80000))
	receiver := func(t *testing.T, path, parameters string) radio.Receiver {
		r, err := radio.Open(radio.FileSource(path)+parameters, radio.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	radiotest.Conformance(t, radiotest.Driver{
		New:    func(t *testing.T) radio.Receiver { return receiver(t, raw, "") },
		Losing: func(t *testing.T) radio.Receiver { return receiver(t, lossy, "") },
		Lost:   1000,
		Blocked: func(t *testing.T) radio.Receiver {
			future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			return receiver(t, raw, "?time=2020-01-01T00:00:00Z&anchor=2020-01-01T00:00:00Z@"+future)
		},
	})
	// A tunable one that starts wherever it is now.
	scene := file("scene.yaml", []byte("stations: {aa: {position: [45, 7]}}\n"))
	radiotest.Conformance(t, radiotest.Driver{
		New: func(t *testing.T) radio.Receiver {
			r, err := radio.Open("sim:"+scene+"?station=aa&pace=fast&center=100M", radio.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
		Tuning: radio.Tuning{CenterHz: 101e6},
	})
}
