package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
)

// configFlag is the --config of every command that reads one.
type configFlag struct {
	Config string `help:"Configuration file. Otherwise HEIMDALL_COLLECTOR_CONFIG, then the system's own, then everything embedded in ./heimdall-data." placeholder:"F"`
}

// load reads the configuration and says which one, and which store, the command uses.
func (f configFlag) load(w io.Writer) (Config, error) {
	path := findConfig(f.Config)
	cfg, err := LoadConfig(path)
	if err != nil {
		return Config{}, usageError{err}
	}
	if path == "" {
		path = "none, everything embedded"
	}
	fmt.Fprintf(w, "config %s, store %s\n", path, redact(string(cfg.Store.URL)))
	return cfg, nil
}

// redact takes the password out of a database's URL.
func redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return strings.SplitN(address, ":", 2)[0]
	}
	return u.Redacted()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newLog(cfg LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(cfg.Level)) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// RunCmd is the service.
type RunCmd struct {
	configFlag `embed:""`
}

// Help is shown below the usage.
func (RunCmd) Help() string {
	return "Example:  heimdall-collector run --config /etc/heimdall/collector.yaml"
}

// Run is called by the command line.
func (c RunCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	collector, err := Open(ctx, cfg, version, newLog(cfg.Log, s.err))
	if err != nil {
		return err
	}
	return collector.Run(ctx)
}

// MigrateCmd brings the database up to date.
type MigrateCmd struct {
	configFlag `embed:""`
}

// Run is called by the command line.
func (c MigrateCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, string(cfg.Store.URL), newLog(cfg.Log, s.err))
	if err != nil {
		return err
	}
	defer db.Close()
	applied, err := db.Migrate(ctx)
	if err != nil {
		return err
	}
	d, err := db.Describe(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: %d migrations applied, now at %d\n", d, applied, d.Migration)
	return nil
}

// CheckCmd tries everything that the collector needs.
type CheckCmd struct {
	configFlag `embed:""`
	Wait       configs.Duration `help:"Try again for so long until all is well." placeholder:"D"`
	JSON       bool             `name:"json" help:"JSON lines."`
}

// finding is one line of a check.
type finding struct {
	Verdict string `json:"verdict"` // ok, warn, fail
	What    string `json:"what"`
	Detail  string `json:"detail"`
}

// Run is called by the command line.
func (c CheckCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(time.Duration(c.Wait))
	for {
		findings := c.try(ctx, cfg)
		failed := false
		for _, f := range findings {
			failed = failed || f.Verdict == "fail"
		}
		if failed && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			continue
		}
		if err := c.print(s.out, findings); err != nil {
			return err
		}
		if failed {
			return errReported
		}
		return nil
	}
}

func (c CheckCmd) print(w io.Writer, findings []finding) error {
	for _, f := range findings {
		var err error
		if c.JSON {
			err = json.NewEncoder(w).Encode(f)
		} else {
			_, err = fmt.Fprintf(w, "%-5s %-9s %s\n", f.Verdict, f.What, f.Detail)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c CheckCmd) try(ctx context.Context, cfg Config) []finding {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return []finding{checkStore(ctx, cfg), checkArchive(ctx, cfg), checkBroker(ctx, cfg), checkClock()}
}

func fail(what string, err error) finding { return finding{"fail", what, err.Error()} }

func checkStore(ctx context.Context, cfg Config) finding {
	db, err := store.Open(ctx, string(cfg.Store.URL), quiet())
	if err != nil {
		return fail("database", err)
	}
	defer db.Close()
	d, err := db.Describe(ctx)
	if err != nil {
		return fail("database", err)
	}
	detail := fmt.Sprintf("%s %s, migration %d", redact(string(cfg.Store.URL)), d, d.Migration)
	if d.Migration == 0 {
		return finding{"warn", "database", detail + ": `heimdall-collector migrate` or `run` makes the tables"}
	}
	return finding{"ok", "database", detail}
}

func checkArchive(ctx context.Context, cfg Config) finding {
	a, err := archive.Open(ctx, archive.Config{Location: cfg.Archive.URL, Credentials: cfg.Archive.credentials(), Log: quiet()})
	if err != nil {
		return fail("archive", err)
	}
	defer a.Close()
	if err := a.Check(ctx); err != nil {
		return fail("archive", err)
	}
	return finding{"ok", "archive", cfg.Archive.URL}
}

func (c ArchiveConfig) credentials() archive.Credentials {
	return archive.Credentials{AccessKey: c.AccessKey, SecretKey: string(c.SecretKey)}
}

// buildYear is a year that every clock in use has reached.
const buildYear = 2026

func checkClock() finding {
	now := time.Now().UTC()
	if now.Year() < buildYear {
		return fail("clock", errors.New("the clock says "+now.Format(time.RFC3339)+"; set it, or records are rejected as coming from the future"))
	}
	return finding{"ok", "clock", now.Format(time.RFC3339)}
}

// TapCmd shows records as they are stored.
type TapCmd struct {
	remote  `embed:""`
	Station string `help:"Only this station." placeholder:"S"`
	Kind    string `help:"Only this kind of record." placeholder:"K"`
	JSON    bool   `name:"json" help:"One JSON record a line."`
}

// Help is shown below the usage.
func (TapCmd) Help() string {
	return "Example:  heimdall-collector tap --station torino --kind detection"
}

// Run is called by the command line.
func (c TapCmd) Run(ctx context.Context, s streams) error {
	query := url.Values{"event": {api.EventRecord}}
	if c.Station != "" {
		query.Set("station", c.Station)
	}
	if c.Kind != "" {
		query.Set("kind", c.Kind)
	}
	return c.events(ctx, query, api.EventRecord, func(data []byte) error {
		if c.JSON {
			_, err := fmt.Fprintf(s.out, "%s\n", data)
			return err
		}
		return printRecord(s.out, data)
	})
}

// printRecord is one line for people: who, when, what, and the numbers that matter.
func printRecord(w io.Writer, data []byte) error {
	var head struct {
		Time, Station, Receiver, Step string
		Seq                           uint64
		Measurement                   *heard
		Detection                     *struct {
			CenterHz  float64 `json:"center_hz"`
			DurationS float64 `json:"duration_s"`
			PowerDBFS float64 `json:"power_dbfs"`
			SNRDB     float64 `json:"snr_db"`
		}
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("read a record: %w", err)
	}
	where := fmt.Sprintf("%s  %-16s %-8s", head.Time, head.Station, head.Step)
	var err error
	switch {
	case head.Measurement != nil:
		_, err = fmt.Fprintf(w, "%s level %s dBFS  floor %s dBFS/Hz  SNR %s dB\n", where, number(head.Measurement.PowerDBFS), number(head.Measurement.NoiseFloorDBFSHz), number(head.Measurement.SNRDB))
	case head.Detection != nil:
		d := head.Detection
		_, err = fmt.Fprintf(w, "%s heard %s for %.3f s, %.1f dBFS, SNR %.1f dB\n", where, configs.Hertz(d.CenterHz), d.DurationS, d.PowerDBFS, d.SNRDB)
	default:
		_, err = fmt.Fprintf(w, "%s record %d\n", where, head.Seq)
	}
	return err
}

// checkBroker connects as a second collector would; an embedded broker is there whenever the collector runs.
func checkBroker(ctx context.Context, cfg Config) finding {
	if cfg.MQTT.URL == "" {
		return finding{"ok", "broker", "embedded, on " + cfg.MQTT.Embedded.Listen}
	}
	session, err := brokerConfig(cfg, cfg.MQTT.URL)
	if err != nil {
		return fail("broker", err)
	}
	if err := link.Probe(ctx, session); err != nil {
		return fail("broker", fmt.Errorf("%s: %w", cfg.MQTT.URL, err))
	}
	return finding{"ok", "broker", cfg.MQTT.URL}
}
