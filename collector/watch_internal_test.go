package main

import (
	"bytes"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/packaging/prometheus"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

var watched = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestPrintStations_TellsOfEachWhatMatters(t *testing.T) {
	seen := func(ago time.Duration) string { return protocol.FormatTime(watched.Add(-ago)) }
	var got bytes.Buffer
	err := printStations(&got, []protocol.Station{
		{
			ID: "torino", Status: "online", State: "running", LastSeen: seen(3 * time.Second), Version: "1.4.0",
			Clock: &protocol.StationClock{Quality: "ntp", UncertaintyS: 0.00184}, Delivery: &protocol.StationDelivery{},
			Reception: []protocol.StationReception{{Receiver: "r0", SamplesTotal: 1000}, {Receiver: "r1", SamplesTotal: 500}},
		},
		{
			ID: "giaveno", Status: "online", State: "degraded", Reason: "receiver r0: nobody answers", LastSeen: seen(50 * time.Second), Version: "1.3.9",
			Clock: &protocol.StationClock{Quality: "gnss", UncertaintyS: 4e-8}, Delivery: &protocol.StationDelivery{Backlog: 12044, BacklogAgeS: 3 * 3600, SpoolUsedRatio: 0.0321},
			Reception: []protocol.StationReception{{Receiver: "r0", SamplesTotal: 9_900, LostSamplesTotal: 100}},
		},
		{ID: "genova", Status: "offline", State: "stopped", Since: seen(3 * time.Hour), LastSeen: seen(3 * time.Hour)},
		{ID: "cuneo", Status: "offline", State: "running", LastSeen: seen(9 * 24 * time.Hour), Clock: &protocol.StationClock{Quality: "unset"}},
		{ID: "new", Status: "offline"},
		{ID: "asti", Status: "offline", State: "left", Reason: "left on 2026-11-23; it is back once its agent runs again", LastSeen: seen(24 * time.Hour)},
		{ID: "biella", Status: "offline", State: "revoked", Reason: "revoked on 2026-11-23", Since: seen(24 * time.Hour)},
	}, watched)
	if err != nil {
		t.Fatal(err)
	}
	want := `station  status            last seen  clock        spool                        lost  version  why
torino   online            3 s ago    ntp ±1.8 ms  empty                        none  1.4.0    
giaveno  online, degraded  50 s ago   gnss ±40 ns  12044 since 3 h, 3.2 % used  1 %   1.3.9    receiver r0: nobody answers
genova   offline           3 h ago    -            -                            -     -        stopped 3 h ago
cuneo    offline           9 d ago    unset        -                            -     -        its connection was lost: the computer is off, or its network or the broker is away
new      offline           never      -            -                            -     -        no agent has connected
asti     offline, left     24 h ago   -            -                            -     -        left on 2026-11-23; it is back once its agent runs again
biella   offline, revoked  never      -            -                            -     -        revoked on 2026-11-23
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestWatching_ACollectorWithAStation asks a collector for what is watched of it and of a station that it has heard of.
func TestWatching_ACollectorWithAStation(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	spool, now := []byte("12345678"), time.Now()
	health := &protocol.Record{
		Station: new("torino"), Spool: spool, Seq: new(uint64(1)), Time: new(now.UnixNano()),
		Body: &protocol.Record_Health{Health: &protocol.Health{Receivers: []*protocol.ReceiverHealth{{
			Receiver: new("r0"), SamplesTotal: new(uint64(1000)), Lost: []*protocol.Loss{{Reason: new("overrun"), Samples: new(uint64(3))}, {Reason: new("network"), Samples: new(uint64(4))}},
		}}}},
	}
	gap := &protocol.Record{
		Station: new("torino"), Spool: spool, Seq: new(uint64(4)), Time: new(now.UnixNano()),
		Body: &protocol.Record_Gap{Gap: &protocol.Gap{Ranges: protocol.NewRanges(protocol.Range{From: 2, To: 3}).Wire(), Reason: protocol.Gap_REASON_DISK_FULL.Enum()}},
	}
	if _, _, err := w.store.Commit(t.Context(), now, []*protocol.Record{health, gap}, nil); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.store.SaveStatus(t.Context(), "torino", true, now),
		w.store.SaveInfo(t.Context(), "torino", &protocol.Info{Station: "torino", Version: "1.4.0"}, now),
		w.store.SaveState(t.Context(), "torino", &protocol.State{State: "running", TimeQuality: "ntp", TimeUncertaintyS: 0.25, Backlog: 3, BacklogAgeS: 1.5, SpoolUsedRatio: 0.125}, now),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	code, text := w.get(t, "/metrics")
	for _, want := range []string{
		`heimdall_collector_ready{condition="broker"} 1`, `heimdall_collector_ready{condition="database"} 1`,
		`heimdall_collector_database_bytes `, `heimdall_collector_store_used_ratio{store="database"} 0.`, `heimdall_collector_store_free_bytes{store="archive"} `,
		`heimdall_collector_record_delay_seconds_count 0`, `heimdall_collector_jobs_leader `, `heimdall_collector_leases_lost_total 0`,
		`heimdall_collector_stations{status="online"} 1`, `heimdall_collector_stations{status="offline"} 0`,
		`heimdall_collector_station_info{station="torino",state="running",time_quality="ntp",version="1.4.0"} 1`,
		`heimdall_collector_station_online{station="torino"} 1`, `heimdall_collector_station_last_seen_timestamp_seconds{station="torino"} 1.`,
		`heimdall_collector_station_time_error_seconds{station="torino"} 0.25`, `heimdall_collector_station_backlog_records{station="torino"} 3`,
		`heimdall_collector_station_backlog_age_seconds{station="torino"} 1.5`, `heimdall_collector_station_buffer_used_ratio{station="torino"} 0.125`,
		`heimdall_collector_station_samples_received_total{station="torino",receiver="r0"} 1000`, `heimdall_collector_station_samples_lost_total{station="torino",receiver="r0"} 7`,
		`heimdall_collector_station_records{station="torino",fate="received"} 2`, `heimdall_collector_station_records{station="torino",fate="gapped"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if says, err := servers.Promtool(t, text, "check", "metrics"); code != http.StatusOK || err != nil || says != "" {
		t.Errorf("status %d, promtool: %v\n%s", code, err, says)
	}
	rules, err := os.ReadFile("../packaging/prometheus/heimdall.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`heimdall_collector_\w+`).FindAllString(string(rules), -1) {
		if !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("an alert asks for %s, which is not there", name)
		}
	}
	for _, line := range prometheus.MissingFromPage(text) {
		t.Errorf("packaging/prometheus/METRICS.md has no line: %s", line)
	}
	if t.Failed() {
		t.Log(text)
	}
	var out, errs bytes.Buffer
	if code := run([]string{"station", "list", "--url", w.remote.URL}, streams{&out, &errs}); code != 0 || !strings.Contains(out.String(), "ntp ±250 ms  3 since 2 s, 12.5 % used  0.7 %  1.4.0") {
		t.Errorf("ended with %d: %s%s", code, out.String(), errs.String())
	}
	out.Reset()
	if code := run([]string{"station", "list", "--json", "--url", w.remote.URL}, streams{&out, &errs}); code != 0 || !strings.Contains(out.String(), `"reception":[{"receiver":"r0","samples_total":1000,"lost_samples_total":7}]`) {
		t.Errorf("ended with %d: %s%s", code, out.String(), errs.String())
	}
}
