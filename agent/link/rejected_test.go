package link_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// What a collector refused is acknowledged like the rest: only the log tells the owner, and once.
func TestLink_RejectedRecordsAreTold(t *testing.T) {
	t.Parallel()
	broker := servers.Mosquitto(t)
	c := newCollector(t, "main")
	c.refused = protocol.Ranges{{From: 3, To: 4}}
	c.online(broker.URL)
	var text safeBuffer
	a := startAgent(t, broker.URL, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	eventually(t, "the collector is seen", a.CollectorOnline)
	for n := 1; n <= 3; n++ {
		a.add(t, 10*n, 10*n+9)
		eventually(t, "all acknowledged", a.empty)
	}
	want := `the collector refused records; its table rejected says why" collector=main spool=` + hexID(a.spool.Identity()) + " seqs={[3,5)} kinds=[measurement] rejected_total=2"
	if n := strings.Count(text.String(), "refused records"); n != 1 || !strings.Contains(text.String(), want) {
		t.Errorf("said %d times, want once\n%s\n%s", n, want, text.String())
	}
}
