package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/service"
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

// account is whose database and files the configuration names, where it is that of the service.
func (f configFlag) account() account {
	if findConfig(f.Config) != systemConfig() {
		return account{}
	}
	return accountOf(programName)
}

// redact takes what may hold a password out of a database's URL. One that cannot be read gives its scheme alone: a password that
// is not escaped may be anywhere in it.
func redact(address string) string {
	if strings.HasPrefix(address, "sqlite:") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		return strings.SplitN(address, ":", 2)[0]
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}

// unreachable is the error of a server that did not answer: its address once, and what to do. Other errors stay.
func unreachable(err error, key string) error {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok || op.Err == nil:
		return err
	case op.Addr == nil: // its name was not found
		return fmt.Errorf("%w; correct %s", op.Err, key)
	}
	return fmt.Errorf("no server answers at %s: %w; start it, or name another in %s", op.Addr, op.Err, key)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newLog(cfg LogConfig, w io.Writer) *slog.Logger {
	return service.NewLogger(w, cfg.Level, cfg.Format)
}

// RunCmd is the service.
type RunCmd struct {
	configFlag `embed:""`
}

// Help begins with the example.
func (RunCmd) Help() string {
	return "Example:  heimdall-collector run --config /etc/heimdall/collector.yaml"
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
	log := newLog(cfg.Log, w)
	collector, err := Open(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	collector.notifier = service.NewNotifier(log.With("component", "service"))
	defer collector.notifier.Close()
	return collector.Run(ctx)
}

// MigrateCmd brings the database up to date.
type MigrateCmd struct {
	configFlag `embed:""`
}

// Help begins with the example.
func (MigrateCmd) Help() string {
	return "Example:  heimdall-collector migrate --config /etc/heimdall/collector.yaml"
}

// Run is called by the command line.
func (c MigrateCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	return c.account().do(func() error { return c.run(ctx, s, cfg) })
}

func (c MigrateCmd) run(ctx context.Context, s streams, cfg Config) error {
	db, err := store.Open(ctx, string(cfg.Store.URL), newLog(cfg.Log, s.err))
	if err != nil {
		return err
	}
	defer db.Close()
	applied, err := db.Migrate(ctx)
	if err != nil {
		return unreachable(err, "store.url")
	}
	d, err := db.Describe(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s: %s applied, now at %d\n", d, plural(applied, "migration"), d.Migration)
	return err
}
