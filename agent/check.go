package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// CheckCmd tries everything that the station needs.
type CheckCmd struct {
	configFlag `embed:""`
	Strict     bool `help:"A warning ends with 1 too."`
	JSON       bool `name:"json" help:"JSON lines."`
}

// Help begins with the example.
func (CheckCmd) Help() string {
	return "Example:  heimdall-agent check --config /etc/heimdall/agent.yaml\n\n" +
		"Ends with 0 when nothing fails; warnings count as failures with --strict."
}

// finding is one line of a check.
type finding struct {
	Verdict string `json:"verdict"` // ok, warn, fail
	What    string `json:"what"`
	Detail  string `json:"detail"`
}

// ofSource is what a finding is of that says a fault of a source. Like one of the configuration, it does not mend itself.
const ofSource = "source"

// listenFor is how long each receiver is tried.
const listenFor = 3 * time.Second

// Run is called by the command line.
func (c CheckCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	if err := cfg.MQTT.examine(); err != nil {
		return usageError{err}
	}
	findings := checkAll(ctx, cfg)
	if err := c.print(s.out, findings); err != nil {
		return err
	}
	return c.verdict(findings)
}

// checkAll tries everything.
func checkAll(ctx context.Context, cfg Config) []finding {
	clk := newClock(cfg, slog.New(slog.DiscardHandler))
	findings := []finding{{"ok", "config", "station " + cfg.Station.ID + ", " + receivers(len(cfg.Receivers))}}
	findings = append(findings, checkStation(ctx, cfg, clk)...)
	findings = append(findings, checkLink(ctx, cfg)...)
	findings = append(findings, checkClock(clk))
	if len(cfg.Control.Allow) == 0 {
		findings = append(findings, finding{"ok", "control", "takes no orders from the network (control.allow is empty)"})
	}
	return findings
}

// verdict is how the check ends.
func (c CheckCmd) verdict(findings []finding) error {
	failed := false
	for _, f := range findings {
		if f.What == ofSource {
			return usageError{errReported}
		}
		failed = failed || f.Verdict == "fail" || c.Strict && f.Verdict == "warn"
	}
	if failed {
		return errReported
	}
	return nil
}

func (c CheckCmd) print(w io.Writer, findings []finding) error {
	for _, f := range findings {
		var err error
		if c.JSON {
			err = json.NewEncoder(w).Encode(f)
		} else {
			_, err = fmt.Fprintf(w, "%-5s %-10s %s\n", f.Verdict, f.What, f.Detail)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func receivers(n int) string {
	if n == 1 {
		return "1 receiver"
	}
	return fmt.Sprintf("%d receivers", n)
}

// checkStation looks at receivers and spool. They serve one process each: where an agent runs, its word is taken.
func checkStation(ctx context.Context, cfg Config, c *clock.Clock) []finding {
	st, err := askStatus(ctx, cfg.Spool.Path)
	switch {
	case err == nil:
		return checkRunning(st)
	case !errors.Is(err, errNotRunning):
		return []finding{{"fail", "agent", err.Error()}}
	}
	var findings []finding
	opts := radio.Options{Hosts: radio.NewHosts(), Wall: wallOf(c)}
	for _, r := range cfg.Receivers {
		if p := (ownSwitch{cfg.Spool.Path}).read(); p != nil {
			findings = append(findings, finding{"warn", "receiver", r.ID + " is not tried: " + paused(p.says())})
			continue
		}
		faults := r.faults(ctx)
		for _, f := range faults {
			findings = append(findings, finding{"fail", ofSource, r.ID + " " + f.Error()})
		}
		if len(faults) == 0 {
			findings = append(findings, checkReceiver(ctx, r, opts))
		}
	}
	return append(findings, checkSpool(cfg)...)
}

func checkRunning(st status) []finding {
	var findings []finding
	for _, info := range st.Info.Receivers {
		r := st.State.Receivers[info.ID]
		f := finding{"ok", "receiver", fmt.Sprintf("%s %s, %s, %s, %d samples lost", info.ID, info.Hardware, configs.Hertz(info.CenterHz), samplesPerSecond(info.SampleRateHz), r.LostSamplesTotal)}
		if !r.Connected {
			f = finding{"fail", "receiver", info.ID + " is not connected: " + cmp.Or(st.State.Reason, "its recording has ended, or it is being opened")}
		}
		if st.State.State == "paused" {
			f = finding{"warn", "receiver", info.ID + " is closed: " + paused(st.State.Reason)}
		}
		findings = append(findings, f)
	}
	if c := st.Clock; c.StepsTotal > 0 {
		findings = append(findings, finding{"warn", "clock", c.String() + " while the agent ran: what it recorded before keeps the time that it had then"})
	}
	if d := st.Daily; d != nil {
		f := finding{"ok", "daily", dailyText(*d)}
		if d.UsedUp || len(d.LeftOut) > 0 {
			f.Verdict = "warn"
		}
		findings = append(findings, f)
	}
	if st.Broker.DuplicateIdentity {
		findings = append(findings, finding{"fail", "broker", duplicateIdentity})
	}
	return append(findings, spoolFindings(st.Spool)...)
}

// paused says why nothing is heard.
func paused(reason string) string { return "the station is paused: " + reason }

func spoolFindings(s spoolStatus) []finding {
	detail := fmt.Sprintf("%s of %s, %d records wait%s", configs.Bytes(s.Bytes), configs.Bytes(s.LimitBytes), s.Records, s.Disk.free(s.LimitBytes))
	return append([]finding{{"ok", "spool", detail}}, diskFindings(s.Disk, s.LimitBytes)...)
}

func diskFindings(d diskStatus, limit int64) []finding {
	var findings []finding
	for _, warning := range d.warnings(limit) {
		findings = append(findings, finding{"warn", "disk", warning})
	}
	return findings
}

// checkReceiver opens the receiver and listens for a while.
func checkReceiver(ctx context.Context, cfg ReceiverConfig, opts radio.Options) finding {
	found, err := radio.Probe(ctx, cfg.source(), opts, listenFor, nil)
	if err != nil {
		return finding{"fail", "receiver", cfg.ID + " " + err.Error()}
	}
	detail := fmt.Sprintf("%s %s, %s, %s, %d samples, %d lost, time %s ±%s", cfg.ID, found.Info.Hardware, configs.Hertz(found.Info.Tuning.CenterHz),
		samplesPerSecond(found.RateHz), found.Samples, found.Lost, found.TimeQuality.Short(), found.TimeUncertainty)
	switch {
	case found.Lost > 0:
		return finding{"warn", "receiver", detail + ": look at power, cable and CPU"}
	case cfg.Gain == "auto":
		return finding{"warn", "receiver", detail + ": with gain auto a series of powers means nothing"}
	}
	return finding{"ok", "receiver", detail}
}

func checkSpool(cfg Config) []finding {
	limit, err := spoolLimit(cfg.Spool)
	if err != nil {
		return []finding{{"fail", "spool", err.Error()}}
	}
	stats, err := spool.Stat(cfg.Spool.Path)
	disk := newDiskStatus(cfg.Spool.Path, stats)
	switch {
	case errors.Is(err, os.ErrNotExist):
		detail := fmt.Sprintf("%s will be made, up to %s%s", cfg.Spool.Path, configs.Bytes(limit), disk.free(limit))
		return append([]finding{{"ok", "spool", detail}}, diskFindings(disk, limit)...)
	case err != nil:
		return []finding{{"fail", "spool", err.Error()}}
	case stats.Station != "" && stats.Station != cfg.Station.ID && stats.Records > 0:
		err := &spool.StationError{Path: cfg.Spool.Path, Station: stats.Station, Records: stats.Records}
		return []finding{{"fail", "spool", "station.id: " + cfg.Station.ID + ": " + err.Error()}}
	}
	return spoolFindings(spoolStatus{Bytes: stats.Bytes, LimitBytes: limit, Records: stats.Records, Disk: disk})
}

func checkClock(c *clock.Clock) finding {
	now := c.Reading()
	text := fmt.Sprintf("%s ±%s", now.Quality.Short(), now.Uncertainty)
	switch {
	case !now.Set:
		return finding{"fail", "clock", fmt.Sprintf("says %s, and this program was built at %s: set it, or run an NTP client; records wait in memory until then",
			now.System.Format(time.RFC3339), c.Floor().Format(time.RFC3339))}
	case now.Quality == protocol.TimeQuality_TIME_QUALITY_SYSTEM:
		return finding{"warn", "clock", text + ": the kernel does not call itself synchronised; run an NTP client (clock.uncertainty says how far off it may be)"}
	}
	return finding{"ok", "clock", text + ": good for levels and detections, not for TDoA unless the receiver has its own time"}
}

// checkLink connects to the broker as the station would, without taking its place there.
func checkLink(ctx context.Context, cfg Config) []finding {
	if cfg.MQTT.URL == "" {
		return []finding{{"warn", "broker", "none configured (mqtt.url): records are kept here"}}
	}
	ctx, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	online, err := link.Probe(ctx, linkConfig(cfg))
	switch {
	case err != nil:
		return []finding{{"fail", "broker", cfg.MQTT.URL + ": " + brokerFault(ctx, err)}}
	case !online:
		return []finding{{"ok", "broker", cfg.MQTT.URL}, {"warn", "collector", "none is online: records are kept here until one is"}}
	}
	return []finding{{"ok", "broker", cfg.MQTT.URL}, {"ok", "collector", "online"}}
}

// brokerWait is how long the broker is tried: three ways there and back of a slow link.
const brokerWait = 20 * time.Second

// brokerFault says why the broker cannot be used.
func brokerFault(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %.0f s", brokerWait.Seconds())
	}
	return err.Error()
}
