package servers_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/servers"
)

func TestServersAnswer(t *testing.T) {
	broker := servers.Mosquitto(t)
	if out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", strings.TrimPrefix(broker.URL, "mqtt://127.0.0.1:"), "-t", "x", "-m", "1", "-q", "1").CombinedOutput(); err != nil {
		t.Errorf("publish: %v: %s", err, out)
	}
	broker.Kill()
	broker.Start(t)
	for name, url := range map[string]string{"postgres": servers.Postgres(t), "timescaledb": strings.Replace(servers.TimescaleDB(t), "&default_query_exec_mode=exec", "", 1)} {
		out, err := exec.Command("psql", "-At", "-d", url, "-c", "select 40 + 2").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != "42" {
			t.Errorf("%s: got %q, %v; want 42", name, got, err)
		}
	}
	if o := servers.MinIO(t); !strings.HasPrefix(o.URL, "s3://heimdall?endpoint=http://127.0.0.1:") {
		t.Errorf("MinIO URL %q", o.URL)
	}
}
