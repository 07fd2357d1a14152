package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/packaging/support"
)

// SupportCmd writes what helps others to help.
type SupportCmd struct {
	configFlag `embed:""`
	Out        string `help:"Write it to a file instead." placeholder:"FILE"`
}

// Help begins with the example.
func (SupportCmd) Help() string {
	return "Example:  heimdall-agent support --out support.txt\n\n" +
		"Build, computer, configuration, check, state, spool and the last lines of the log in one text. Passwords, arguments of exec: and the\n" +
		"exact place of the antenna are hidden. It works beside a running agent, without one, and with a configuration that has faults."
}

// Run is called by the command line.
func (c SupportCmd) Run(ctx context.Context, s streams) error {
	out, done, err := support.Create(c.Out, s.out)
	if err != nil {
		return err
	}
	report := newSupportReport(c.Config)
	_, err = io.WriteString(out, support.Title(programName, version, report.clock.Reading().System))
	if err == nil {
		err = support.Write(ctx, out, &report.secrets, report.parts())
	}
	return errors.Join(err, done())
}

// supportReport is what the parts of the text are made from.
type supportReport struct {
	path    string
	cfg     Config
	fault   error // of the configuration, which is what an empty file would mean then
	secrets support.Secrets
	clock   *clock.Clock
}

func newSupportReport(flag string) *supportReport {
	r := &supportReport{cfg: DefaultConfig()}
	var cfg Config
	if r.path, r.fault = findConfig(flag); r.fault == nil {
		if text, err := os.ReadFile(r.path); err == nil {
			r.secrets.AddConfig(string(text))
		}
		if cfg, r.fault = LoadConfig(r.path); r.fault == nil {
			r.cfg = cfg
		}
	}
	r.secrets.AddEnvironment(os.Environ())
	if _, password, err := service.Secret("HEIMDALL_AGENT_MQTT_PASSWORD", programName+".mqtt.password"); err == nil {
		r.secrets.Add(password)
	}
	r.secrets.Add(string(r.cfg.MQTT.Password))
	if p := r.cfg.Station.Position; p != nil {
		r.secrets.AddPlace(p.Lat)
		r.secrets.AddPlace(p.Lon)
	}
	for _, receiver := range r.cfg.Receivers {
		r.secrets.AddURL(receiver.Source)
	}
	r.clock = newClock(r.cfg, slog.New(slog.DiscardHandler))
	return r
}

func (r *supportReport) parts() []support.Part {
	checking := brokerWait + time.Duration(2+len(r.cfg.Receivers))*2*listenFor
	return []support.Part{
		{Title: "build", Write: func(_ context.Context, w io.Writer) error { return support.Build(w, programName, version) }},
		{Title: "computer", Write: func(_ context.Context, w io.Writer) error { return support.Computer(w) }},
		{Title: "engine", Write: writeEngine},
		{Title: "configuration", Write: r.configuration},
		{Title: "service", Write: func(ctx context.Context, w io.Writer) error { return support.Service(ctx, w, programName) }},
		{Title: "status", Limit: 2 * usualWait, Write: r.status},
		{Title: "check", Limit: checking, Write: r.check},
		{Title: "spool", Limit: 2 * usualWait, Write: r.spool},
		{Title: "clock", Write: r.time},
		{Title: "disk", Write: r.disk},
		{Title: "limits", Write: func(_ context.Context, w io.Writer) error { return support.Limits(w) }},
		{Title: "log", Limit: 2 * usualWait, Write: func(ctx context.Context, w io.Writer) error { return support.Journal(ctx, w, programName) }},
	}
}

// usualWait is what the running agent is given for an answer.
const usualWait = 5 * time.Second

func writeEngine(_ context.Context, w io.Writer) error {
	name, err := dsp.Engine()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, name)
	return err
}

func (r *supportReport) configuration(_ context.Context, w io.Writer) error {
	support.Environment(w, os.Environ())
	if r.fault != nil {
		return r.fault
	}
	fmt.Fprintln(w, r.path)
	for _, s := range configs.Settings(r.cfg) {
		if _, err := fmt.Fprintf(w, "%s: %s\n", s.Key, shownSetting(s)); err != nil {
			return err
		}
	}
	return nil
}

// shownSetting is a value without what is nobody's business.
func shownSetting(s configs.Setting) string {
	command, isCommand := strings.CutPrefix(s.Value, "exec:")
	switch {
	case s.Value == "":
		return "-"
	case strings.HasPrefix(s.Key, "station.position.") && s.Key != "station.position.publish":
		return "***"
	case isCommand:
		return "exec:" + shownCommand(command)
	}
	return s.Value
}

// shownCommand is the program of a command line, and the settings of the agent behind it.
func shownCommand(line string) string {
	settings := ""
	if at := strings.LastIndexByte(line, '?'); at >= 0 && strings.Contains(line[at:], "=") {
		line, settings = line[:at], line[at:]
	}
	program, _, more := strings.Cut(strings.TrimSpace(line), " ")
	if more {
		program += " ***"
	}
	return program + settings
}

func (r *supportReport) status(ctx context.Context, w io.Writer) error {
	st, err := askStatus(ctx, r.cfg.Spool.Path)
	if err != nil {
		return err
	}
	return st.print(w)
}

func (r *supportReport) check(ctx context.Context, w io.Writer) error {
	if r.fault != nil {
		return errUnread
	}
	if err := r.cfg.MQTT.examine(); err != nil {
		return err
	}
	return CheckCmd{}.print(w, checkAll(ctx, r.cfg))
}

// errUnread ends the part that cannot do without a configuration.
var errUnread = errors.New("not tried: the configuration has faults")

func (r *supportReport) spool(ctx context.Context, w io.Writer) error {
	report, err := askSpool(ctx, r.cfg)
	if err != nil {
		return err
	}
	return report.print(w)
}

func (r *supportReport) time(_ context.Context, w io.Writer) error {
	now := r.clock.Reading()
	_, err := fmt.Fprintf(w, "%s, %s ±%s, set %t; this program was built at %s\n", now.System.UTC().Format(time.RFC3339Nano), now.Quality.Short(),
		now.Uncertainty, now.Set, r.clock.Floor().Format(time.RFC3339))
	return err
}

func (r *supportReport) disk(_ context.Context, w io.Writer) error {
	path := r.cfg.Spool.Path
	dir, err := standing(path)
	if err != nil {
		return errors.Join(err, support.Folder(w, path))
	}
	size, err := diskBytes(dir)
	if err != nil {
		return fmt.Errorf("ask for the size of the disk under %s: %w", dir, err)
	}
	free, _ := spool.FreeBytes(dir)
	fmt.Fprintf(w, "%s: disk of %s, %s free; the spool and its reserve take %s\n", path, configs.Bytes(size), configs.Bytes(free), configs.Bytes(spool.TakenBytes(path)))
	if dir != filepath.Clean(path) {
		return nil // nothing was stored yet
	}
	return support.Folder(w, path)
}
