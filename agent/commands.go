package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// configFlag is the --config of every command that reads one.
type configFlag struct {
	Config string `help:"Configuration file. Otherwise HEIMDALL_AGENT_CONFIG, then the system's own." placeholder:"F"`
}

// load reads the configuration and says on w which one, and which state directory, the command uses.
func (f configFlag) load(w io.Writer) (Config, error) {
	path, err := findConfig(f.Config)
	if err != nil {
		return Config{}, usageError{err}
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		return Config{}, usageError{err}
	}
	fmt.Fprintf(w, "config %s, state %s\n", path, cfg.Spool.Path)
	return cfg, nil
}

func newLog(cfg LogConfig, w io.Writer) *slog.Logger {
	return service.NewLogger(w, cfg.Level, cfg.Format)
}

// RunCmd is the service.
type RunCmd struct {
	configFlag `embed:""`
}

// Help begins with the example.
func (RunCmd) Help() string {
	return "Example:  heimdall-agent run --config /etc/heimdall/agent.yaml"
}

// Run is called by the command line.
func (c RunCmd) Run(ctx context.Context, s streams) error {
	return service.Run(ctx, programName, s.err, c.run)
}

func (c RunCmd) run(ctx context.Context, w io.Writer) error {
	cfg, err := c.load(w)
	if err != nil {
		return err
	}
	if err := cfg.MQTT.examine(); err != nil {
		return usageError{err}
	}
	if err := cfg.examine(ctx); err != nil {
		return usageError{err}
	}
	limitMemory(cfg)
	log := newLog(cfg.Log, w)
	agent, err := OpenAgent(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	agent.notifier = service.NewNotifier(log.With("component", "service"))
	defer agent.notifier.Close()
	return agent.Run(ctx)
}

// How much memory the agent aims to stay within, beside its histories of IQ. The program itself and the pages of the spool
// that are being read come on top, with up to 16 MB.
const (
	memoryAlways   = 16 << 20
	memoryReceiver = 8 << 20 // and for each receiver, whose detector has 6 of them
)

// limitMemory tells the garbage collector so. Without it, garbage could grow to the size of the histories before it is
// collected. GOMEMLIMIT in the environment goes before.
func limitMemory(cfg Config) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := int64(memoryAlways)
	for _, r := range cfg.Receivers {
		limit += memoryReceiver + int64(*r.History)
	}
	debug.SetMemoryLimit(limit)
}

// StatusCmd asks the running agent.
type StatusCmd struct {
	configFlag `embed:""`
	JSON       bool `name:"json" help:"Print JSON."`
}

// Help begins with the example.
func (StatusCmd) Help() string { return "Example:  heimdall-agent status --json" }

// Run is called by the command line.
func (c StatusCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	st, err := askStatus(ctx, cfg.Spool.Path)
	if errors.Is(err, errNotRunning) {
		return fmt.Errorf("%w; `heimdall-agent run` or the service starts it", err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(st)
	}
	return st.print(s.out)
}

func askStatus(ctx context.Context, stateDir string) (status, error) {
	var st status
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := askAgent(ctx, stateDir, "/status")
	if err != nil {
		return st, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&st); err != nil {
		return st, fmt.Errorf("read the agent's answer: %w", err)
	}
	return st, nil
}

func (st status) print(w io.Writer) error {
	reason := ""
	if st.State.Reason != "" {
		reason = ": " + st.State.Reason
	}
	fmt.Fprintf(w, "%s %s%s%s (version %s, up %s)\n", st.Station, st.State.State, lasting(st.State), reason, st.Version, time.Duration(st.UptimeS*1e9).Round(time.Second))
	for _, info := range st.Info.Receivers {
		r := st.State.Receivers[info.ID]
		connected := "not connected"
		if r.Connected {
			at := info.CenterHz
			if r.Away != nil {
				at = r.Away.CenterHz
			}
			connected = fmt.Sprintf("%s at %s, %s, %s, %d samples lost", info.Hardware, configs.Hertz(math.Round(at)), samplesPerSecond(info.SampleRateHz), reach(r.HistoryS, int(r.Held)), r.LostSamplesTotal)
		}
		fmt.Fprintf(w, "  receiver %s: %s\n", info.ID, connected)
		if r.Away != nil {
			fmt.Fprintf(w, "    %s; its plan is at %s\n", awayFor(r.Away), configs.Hertz(math.Round(info.CenterHz)))
		}
		for _, name := range slices.Sorted(maps.Keys(r.Steps)) {
			step := r.Steps[name]
			fmt.Fprintf(w, "    %s: level %s dBFS, floor %s dBFS/Hz, SNR %s dB, %d detections\n", name, number(step.PowerDBFS), number(step.NoiseFloorDBFSHz), number(step.SNRDB), step.DetectionsTotal)
		}
	}
	fmt.Fprintf(w, "  spool %s: %d records wait, the oldest of %.0f s ago; %s of %s used%s\n", st.Spool.Identity, st.Spool.Records, st.State.BacklogAgeS, configs.Bytes(st.Spool.Bytes), configs.Bytes(st.Spool.LimitBytes), st.Spool.Disk.free(st.Spool.LimitBytes))
	for _, warning := range st.Spool.Disk.warnings(st.Spool.LimitBytes) {
		fmt.Fprintf(w, "    warning: %s\n", warning)
	}
	if st.Daily != nil {
		fmt.Fprintf(w, "  day: %s\n", dailyText(*st.Daily))
	}
	fmt.Fprintf(w, "  clock %s\n", st.Clock)
	_, err := fmt.Fprintf(w, "  broker %s\n", st.Broker)
	return err
}

// lasting says how long the station has been as it is.
func lasting(s protocol.State) string {
	now, err := protocol.ParseTime(s.Time)
	if err != nil {
		return ""
	}
	since, err := protocol.ParseTime(s.Since)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" for %s", max(0, now.Sub(since)).Round(time.Second))
}

func (c clockStatus) String() string {
	text := fmt.Sprintf("%s ±%s", c.Quality, time.Duration(c.UncertainS*1e9))
	if !c.Set {
		text = fmt.Sprintf("not set: %d records wait in memory until it is", c.HeldRecords)
	}
	switch {
	case c.StepsTotal == 1:
		text += "; it stepped by " + signed(c.LastStepS)
	case c.StepsTotal > 1:
		text += fmt.Sprintf("; it stepped %d times, last by %s", c.StepsTotal, signed(c.LastStepS))
	}
	return text
}

// signed prints seconds: +1h0m0s.
func signed(s float64) string {
	text := time.Duration(s * 1e9).Round(time.Millisecond).String()
	if s > 0 {
		text = "+" + text
	}
	return text
}

func (l linkStatus) String() string {
	switch {
	case l.URL == "":
		return "none configured (mqtt.url): records are kept here"
	case l.DuplicateIdentity:
		return l.URL + " " + duplicateIdentity
	case !l.Connected:
		return l.URL + " not connected: records are kept here; `heimdall-agent check` says why"
	case !l.CollectorOnline:
		return l.URL + " connected, but no collector is online: records are kept here"
	}
	return fmt.Sprintf("%s connected, a collector is online, %d records acknowledged", l.URL, l.Acknowledged)
}

// samplesPerSecond prints a sample rate: 240 ksps.
func samplesPerSecond(rateHz float64) string {
	return strings.TrimSuffix(configs.Hertz(rateHz).String(), "Hz") + "sps"
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *v)
}

// TapCmd shows what is heard, live.
type TapCmd struct {
	configFlag `embed:""`
	JSON       bool `name:"json" help:"JSON lines."`
}

// Help begins with the example.
func (TapCmd) Help() string {
	return "Example:  heimdall-agent tap\n\n" +
		"Asks the running agent, or opens the receivers itself where none runs, unless the station is paused. Needs no broker."
}

// Run is called by the command line.
func (c TapCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	show := func(line tapLine) error {
		if c.JSON {
			return json.NewEncoder(s.out).Encode(line)
		}
		_, err := fmt.Fprintln(s.out, line)
		return err
	}
	pause := ownSwitch{cfg.Spool.Path}.read()
	body, err := askAgent(ctx, cfg.Spool.Path, "/tap")
	if errors.Is(err, errNotRunning) {
		if pause != nil {
			return fmt.Errorf("no agent is running here, and the receivers stay closed: %s", pause)
		}
		if err := cfg.examine(ctx); err != nil {
			return usageError{err}
		}
		fmt.Fprintln(s.err, "no agent is running here: opening the receivers for this view")
		return tapAlone(ctx, cfg, show)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if pause != nil {
		fmt.Fprintf(s.err, "nothing is heard: %s\n", pause)
	}
	return readTap(ctx, body, show)
}

func readTap(ctx context.Context, body io.Reader, show func(tapLine) error) error {
	decoder := json.NewDecoder(body)
	for {
		var line tapLine
		if err := decoder.Decode(&line); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = nil // Ctrl-C, or the agent stopped
			}
			return err
		}
		if err := show(line); err != nil {
			return err
		}
	}
}
