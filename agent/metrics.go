package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol/exposition"
)

// metricsServer answers Prometheus on loopback.
type metricsServer struct {
	agent    *Agent
	listener net.Listener
}

// listenMetrics takes the port; nil without an error means that metrics are off.
func listenMetrics(ctx context.Context, a *Agent) (*metricsServer, error) {
	address, asked := defaultMetrics, a.cfg.Metrics.Listen != nil
	if asked {
		address = *a.cfg.Metrics.Listen
	}
	if address == "" {
		return nil, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return &metricsServer{agent: a, listener: l}, nil
	case asked:
		return nil, fmt.Errorf("metrics.listen: %s: %w; stop what holds the port, or choose another one (port 0 takes any free port)", address, err)
	}
	a.log.InfoContext(ctx, "no metrics: the usual port is taken; metrics.listen names another", "address", address, "error", err)
	return nil, nil
}

// run serves until the context ends.
func (m *metricsServer) run(ctx context.Context, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		var text strings.Builder
		if err := exposition.Write(&text, m.agent.families()); err != nil {
			log.ErrorContext(r.Context(), "cannot tell what is counted", "error", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", exposition.ContentType)
		_, _ = w.Write([]byte(text.String())) // the reader went away: nobody is left to tell
	})
	serveUntil(ctx, m.listener, mux, log)
}

func count(name, help string, v uint64) exposition.Family {
	return exposition.Counter("heimdall_agent_"+name, help, exposition.Of(float64(v)))
}

func gauge(name, help string, v float64, labels ...string) exposition.Family {
	return exposition.Gauge("heimdall_agent_"+name, help, exposition.Of(v, labels...))
}

// families is everything that the agent counts.
func (a *Agent) families() []exposition.Family {
	all := []exposition.Family{
		gauge("build_info", "Always 1; the labels say what runs.", 1, "version", a.version, "goversion", runtime.Version()),
		gauge("station_info", "Always 1; the labels say which station this is and how it is.", 1, "station", a.cfg.Station.ID, "state", a.condition().word),
		gauge("uptime_seconds", "How long the agent has run.", a.uptime().Seconds()),
	}
	all = append(all, a.receiverFamilies()...)
	all = append(all, a.spoolFamilies()...)
	all = append(all, a.clockFamilies()...)
	all = append(all, a.linkFamilies()...)
	if a.daily != nil {
		account := a.daily.Account()
		all = append(all,
			gauge("daily_used_bytes", "Bytes sent today (UTC), of delivery.daily_bytes.", float64(account.UsedBytes)),
			gauge("daily_limit_bytes", "What delivery.daily_bytes allows a day.", float64(account.LimitBytes)))
	}
	return all
}

func (a *Agent) receiverFamilies() []exposition.Family {
	connected := exposition.Gauge("heimdall_agent_source_connected", "Whether the receiver delivers samples.")
	received := exposition.Counter("heimdall_agent_samples_received_total", "Samples read.")
	lost := exposition.Counter("heimdall_agent_samples_lost_total", "Samples that never came, by reason; some are estimates.")
	rate := exposition.Gauge("heimdall_agent_clock_rate_ppm", "Measured sample rate against the nominal one.")
	late := exposition.Gauge("heimdall_agent_source_lag_seconds", "How late samples come, beyond what is usual on this source.")
	reach := exposition.Gauge("heimdall_agent_history_seconds", "How far back the IQ in memory reaches.")
	stalls := exposition.Counter("heimdall_agent_survey_stalls_total", "How often measuring waited for the spool.")
	for _, r := range a.receivers {
		id, h := r.cfg.ID, r.survey.Health()
		add := func(f *exposition.Family, v float64, labels ...string) {
			f.Samples = append(f.Samples, exposition.Of(v, append([]string{"receiver", id}, labels...)...))
		}
		add(&connected, exposition.Truth(h.Connected))
		add(&received, float64(h.SamplesTotal))
		for _, reason := range slices.Sorted(maps.Keys(h.Lost)) {
			add(&lost, float64(h.Lost[reason]), "reason", reason)
		}
		if !math.IsNaN(h.RatePPM) {
			add(&rate, h.RatePPM)
		}
		add(&late, h.Lag.Seconds())
		add(&reach, h.History.Seconds())
		add(&stalls, float64(h.Stalls))
	}
	return []exposition.Family{connected, received, lost, rate, late, reach, stalls}
}

func (a *Agent) spoolFamilies() []exposition.Family {
	st := a.spool.Stats()
	waiting := exposition.Gauge("heimdall_agent_records_waiting", "Records that nobody has acknowledged yet, by kind.")
	held := exposition.Gauge("heimdall_agent_buffer_bytes", "Disk that they take, by kind.")
	for _, lane := range spool.Lanes() {
		waiting.Samples = append(waiting.Samples, exposition.Of(float64(st.Lanes[lane].Records), "kind", string(lane)))
		held.Samples = append(held.Samples, exposition.Of(float64(st.Lanes[lane].Bytes), "kind", string(lane)))
	}
	disk := newDiskStatus(a.cfg.Spool.Path, st)
	all := []exposition.Family{
		waiting, held,
		count("records_queued_total", "Records given a number, under the present identity of the spool.", st.LastSeq),
		count("records_receipted_total", "Records acknowledged since the start.", st.Acknowledged),
		exposition.Counter("heimdall_agent_records_dropped_total", "Records given up and declared since the start, by reason.",
			exposition.Of(float64(st.Shed-min(st.ShedFull, st.Shed)), "reason", "limit"), exposition.Of(float64(st.ShedFull), "reason", "disk_full")),
		gauge("buffer_limit_bytes", "Disk that waiting records may take.", float64(st.Limit)),
		gauge("buffer_used_ratio", "Part of that limit in use.", st.UsedRatio),
		gauge("disk_writable", "Whether the disk takes what is to be kept.", exposition.Truth(st.Fault == nil)),
	}
	if !st.Oldest.IsZero() {
		all = append(all, gauge("buffer_oldest_timestamp_seconds", "Time of the oldest waiting record; absent when none waits.", float64(st.Oldest.UnixMicro())/1e6))
	}
	if disk.FreeBytes != nil {
		all = append(all, gauge("disk_free_bytes", "Free on the disk of the spool.", float64(*disk.FreeBytes)))
	}
	return all
}

func (a *Agent) clockFamilies() []exposition.Family {
	c := a.clockStatus()
	all := []exposition.Family{
		gauge("time_source_info", "Always 1; the label says what the clock is known by.", 1, "quality", c.Quality),
		gauge("clock_set", "Whether the clock of this computer is set.", exposition.Truth(c.Set)),
		count("clock_steps_total", "How often the clock jumped.", uint64(c.StepsTotal)),
		gauge("records_held", "Records that wait in memory for the clock to be set.", float64(c.HeldRecords)),
	}
	if c.Set {
		all = append(all, gauge("time_error_seconds", "How far the clock may be off.", c.UncertainS))
	}
	return all
}

func (a *Agent) linkFamilies() []exposition.Family {
	if a.network.link == nil {
		return nil
	}
	s := a.network.status()
	all := []exposition.Family{
		gauge("mqtt_connected", "Whether there is a session with the broker.", exposition.Truth(s.Connected)),
		gauge("collector_online", "Whether a collector says that it is there.", exposition.Truth(s.CollectorOnline)),
		gauge("duplicate_identity", "Whether another client uses this station's id.", exposition.Truth(s.DuplicateIdentity)),
		count("records_sent_total", "Records sent since the start, each as often as it was.", a.network.sent()),
	}
	expiry := exposition.Gauge("heimdall_agent_certificate_expiry_timestamp_seconds", "When a certificate ends that the configuration names.")
	if ends, _, err := configs.CertificateEnds(a.cfg.MQTT.Cert); err == nil {
		expiry.Samples = append(expiry.Samples, exposition.Of(float64(ends.Unix()), "key", "mqtt.cert"))
	}
	if _, ends, err := configs.CertificateEnds(a.cfg.MQTT.CA); err == nil { // one of them is enough
		expiry.Samples = append(expiry.Samples, exposition.Of(float64(ends.Unix()), "key", "mqtt.ca"))
	}
	return append(all, expiry)
}
