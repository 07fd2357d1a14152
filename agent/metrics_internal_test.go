package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/prometheus"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// scraped is what Prometheus gets of a running agent.
func scraped(t *testing.T, a *Agent) string {
	t.Helper()
	resp, err := http.Get("http://" + a.metrics.listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s %v %v", resp.Status, resp.Header, err)
	}
	return string(text)
}

func TestMetrics_OfARunningAgent(t *testing.T) {
	here := newSite(t, "metrics: {listen: \"127.0.0.1:0\"}\nmqtt: {url: \"mqtt://127.0.0.1:1\"}\n")
	a, _ := here.start(t)
	here.hears(t)
	text := scraped(t, a)
	for _, want := range []string{
		`heimdall_agent_build_info{version="test",goversion="go`,
		`heimdall_agent_station_info{station="torino",state="running"} 1`,
		`heimdall_agent_source_connected{receiver="r0"} 1`,
		`heimdall_agent_samples_received_total{receiver="r0"} `,
		`heimdall_agent_buffer_bytes{kind="measurement"} `,
		`heimdall_agent_buffer_limit_bytes 1.6777216e+07`,
		`heimdall_agent_buffer_oldest_timestamp_seconds 1.`,
		`heimdall_agent_records_dropped_total{reason="limit"} 0`,
		`heimdall_agent_records_receipted_total 0`,
		`heimdall_agent_records_sent_total 0`,
		`heimdall_agent_disk_writable 1`,
		`heimdall_agent_clock_set 1`,
		`heimdall_agent_time_error_seconds `,
		`heimdall_agent_mqtt_connected 0`,
		`heimdall_agent_collector_online 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if says, err := servers.Promtool(t, text, "check", "metrics"); err != nil || says != "" {
		t.Errorf("promtool: %v\n%s", err, says)
	}
	for _, line := range prometheus.MissingFromPage(text) {
		t.Errorf("packaging/prometheus/METRICS.md has no line: %s", line)
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Several agents may run on one computer: who asked for a port gets it or fails, who did not does without.
func TestMetrics_PortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	asked := newSite(t, "metrics: {listen: \""+address+"\"}\n").load(t)
	if _, err := OpenAgent(t.Context(), asked, "test", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "metrics.listen: "+address) {
		t.Errorf("asked for: %v", err)
	}
	for name, more := range map[string]string{"off": "metrics: {listen: \"\"}\n", "by default": ""} {
		if usual, err := net.Listen("tcp", defaultMetrics); err == nil {
			defer usual.Close() // else another test's agent has it
		}
		a := newSite(t, more).open(t)
		if a.metrics != nil {
			t.Errorf("%s: metrics at %v", name, a.metrics.listener.Addr())
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfig_MetricsStayOnThisComputer(t *testing.T) {
	for address, good := range map[string]bool{"": true, "127.0.0.1:9433": true, "localhost:0": true, "[::1]:9433": true, "0.0.0.0:9433": false, ":9433": false, "9433": false, "10.0.0.1:9433": false} {
		var faults []string
		MetricsConfig{Listen: &address}.check(func(field, _ string) { faults = append(faults, field) })
		if (len(faults) == 0) != good {
			t.Errorf("%q: %v", address, faults)
		}
	}
}
