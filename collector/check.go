package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// buildYear is a year that every clock in use has reached.
const buildYear = 2026

func checkClock() finding {
	now := time.Now().UTC()
	if now.Year() < buildYear {
		return fail("clock", errors.New("the clock says "+now.Format(time.RFC3339)+"; set it, or records are rejected as coming from the future"))
	}
	return finding{"ok", "clock", now.Format(time.RFC3339)}
}
