package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
)

// CheckCmd tries everything that the collector needs.
type CheckCmd struct {
	configFlag `embed:""`
	Wait       configs.Duration `help:"Try again for so long until all is well." placeholder:"D"`
	JSON       bool             `name:"json" help:"JSON lines."`
}

// Help begins with the example.
func (CheckCmd) Help() string {
	return "Example:  heimdall-collector check --config /etc/heimdall/collector.yaml"
}

// finding is one line of a check.
type finding struct {
	Verdict string `json:"verdict"` // ok, warn, fail
	What    string `json:"what"`
	Detail  string `json:"detail"`
	lasting bool   // no waiting changes it
}

// Run is called by the command line.
func (c CheckCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	return c.account().do(func() error { return c.run(ctx, s, cfg) })
}

func (c CheckCmd) run(ctx context.Context, s streams, cfg Config) error {
	deadline := time.Now().Add(time.Duration(c.Wait))
	for {
		findings := c.try(ctx, cfg)
		failed, lasting := false, false
		for _, f := range findings {
			failed, lasting = failed || f.Verdict == "fail", lasting || f.lasting
		}
		if failed && !lasting && time.Now().Before(deadline) {
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
	return []finding{
		checkStore(ctx, cfg), checkArchive(ctx, cfg), checkBroker(ctx, cfg), checkPort(ctx, cfg, "api", "http.listen", cfg.HTTP.Listen), checkClock(),
	}
}

func ok(what, detail string) finding   { return finding{Verdict: "ok", What: what, Detail: detail} }
func warn(what, detail string) finding { return finding{Verdict: "warn", What: what, Detail: detail} }

func fail(what string, err error) finding {
	return finding{Verdict: "fail", What: what, Detail: err.Error(), lasting: lasting(err)}
}

// willBeMade tells whether a file or folder that is not there can be made, without making it.
func willBeMade(path string) error {
	for {
		info, err := os.Stat(path)
		parent := filepath.Dir(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && parent != path:
			path = parent
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is no directory", path)
		}
		trial, err := os.MkdirTemp(path, ".heimdall-check-")
		if err != nil {
			return fmt.Errorf("%w; name a place that this account may write to", err)
		}
		return os.Remove(trial)
	}
}

func checkStore(ctx context.Context, cfg Config) finding {
	db, err := store.OpenExisting(ctx, string(cfg.Store.URL), quiet())
	if errors.Is(err, fs.ErrNotExist) {
		path := strings.TrimPrefix(string(cfg.Store.URL), "sqlite:")
		if err := willBeMade(path); err != nil {
			return fail("database", fmt.Errorf("store.url: %w", err))
		}
		return warn("database", path+" is not there yet: `heimdall-collector migrate` or `run` makes it")
	}
	if err != nil {
		return fail("database", err)
	}
	defer db.Close()
	d, err := db.Describe(ctx)
	if err != nil {
		return fail("database", unreachable(err, "store.url"))
	}
	detail := fmt.Sprintf("%s %s, migration %d", redact(string(cfg.Store.URL)), d, d.Migration)
	if d.Migration < d.Newest {
		if err := db.MayMigrate(ctx, d); err != nil {
			return fail("database", fmt.Errorf("%s: %w", detail, err))
		}
		return warn("database", fmt.Sprintf("%s of %d: `heimdall-collector migrate` or `run` brings the tables up to date", detail, d.Newest))
	}
	return ok("database", detail)
}

func checkArchive(ctx context.Context, cfg Config) finding {
	if path, isFolder := strings.CutPrefix(cfg.Archive.URL, "file:"); isFolder {
		path = strings.TrimPrefix(path, "//")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := willBeMade(path); err != nil {
				return fail("archive", fmt.Errorf("archive.url: %w", err))
			}
			return ok("archive", cfg.Archive.URL+", will be made")
		}
	}
	a, err := archive.Open(ctx, archive.Config{Location: cfg.Archive.URL, Credentials: cfg.Archive.credentials(), Log: quiet()})
	if err != nil {
		return fail("archive", err)
	}
	defer a.Close()
	if err := a.Check(ctx); err != nil {
		return fail("archive", unreachable(err, "archive.url"))
	}
	return ok("archive", cfg.Archive.URL)
}

// checkBroker connects as a second collector would; the embedded broker needs its port.
func checkBroker(ctx context.Context, cfg Config) finding {
	if cfg.MQTT.URL == "" {
		return checkPort(ctx, cfg, "broker", "mqtt.embedded.listen", cfg.MQTT.Embedded.Listen)
	}
	session, err := brokerConfig(cfg, cfg.MQTT.URL)
	if err != nil {
		return fail("broker", err)
	}
	online, err := link.Probe(ctx, session)
	if err != nil {
		return fail("broker", err)
	}
	if _, here := runsHere(ctx, cfg); online && !here {
		return warn("broker", fmt.Sprintf("%s: a collector with the id %q is online already; give each its own id in its configuration", cfg.MQTT.URL, cfg.ID))
	}
	if cfg.MQTT.accountsKept() != accountsDynsec {
		return ok("broker", cfg.MQTT.URL)
	}
	dynsec, err := newDynsec(cfg, func(string) *slog.Logger { return quiet() })
	if err == nil {
		err = dynsec.Check(ctx)
	}
	if err != nil {
		return fail("broker", fmt.Errorf("mqtt.accounts: %w", err))
	}
	return ok("broker", cfg.MQTT.URL+", accounts through its dynamic-security plug-in: ok")
}

// checkPort tries to listen where the collector will. A port that is taken by the collector of the same data directory is
// in good hands.
func checkPort(ctx context.Context, cfg Config, what, field, listen string) finding {
	err := mayListen(ctx, listen)
	if err == nil {
		return ok(what, listen+" is free")
	}
	found, here := runsHere(ctx, cfg)
	port := listen[strings.LastIndexByte(listen, ':'):]
	holds := strings.HasSuffix(found.HTTP, port) || strings.HasSuffix(found.MQTT, port)
	if here && holds {
		return ok(what, fmt.Sprintf("%s, held by this collector, which runs (process %d)", listen, found.PID))
	}
	return fail(what, fmt.Errorf("%s: %w; stop what holds the port, or choose another one (port 0 takes any free port)", field, err))
}

// mayListen says why nobody can listen on an address.
func mayListen(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// runsHere finds the collector that runs with this data directory.
func runsHere(ctx context.Context, cfg Config) (running, bool) {
	found, err := findRunning(cfg.Data)
	return found, err == nil && (remote{URL: found.HTTP, data: cfg.Data}).call(ctx, http.MethodGet, "/healthz", nil, nil) == nil
}

// buildYear is a year that every clock in use has reached.
const buildYear = 2026

func checkClock() finding {
	now := time.Now().UTC()
	if now.Year() < buildYear {
		return fail("clock", errors.New("the clock says "+now.Format(time.RFC3339)+"; set it, or records are rejected as coming from the future"))
	}
	return ok("clock", now.Format(time.RFC3339))
}
