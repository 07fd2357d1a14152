package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
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
	return "Example:  heimdall-collector support --out support.txt\n\n" +
		"Build, computer, configuration, check, database, stations and the last lines of the log in one text. Passwords, keys and tokens are\n" +
		"hidden. It works beside a running collector, without one, and with a configuration that has faults."
}

// Run is called by the command line.
func (c SupportCmd) Run(ctx context.Context, s streams) error {
	out, done, err := support.Create(c.Out, s.out)
	if err != nil {
		return err
	}
	report := newSupportReport(c.Config)
	_, err = io.WriteString(out, support.Title(programName, version, time.Now()))
	if err == nil {
		err = support.Write(ctx, out, &report.secrets, report.parts())
	}
	return errors.Join(err, done())
}

// supportReport is what the parts of the text are made from.
type supportReport struct {
	path    string
	cfg     Config
	fault   error // of the configuration, which is the default then
	secrets support.Secrets
}

func newSupportReport(flag string) *supportReport {
	r := &supportReport{path: findConfig(flag), cfg: DefaultConfig()}
	r.cfg.embed()
	if text, err := os.ReadFile(r.path); err == nil {
		r.secrets.AddConfig(string(text))
	}
	var cfg Config
	if cfg, r.fault = LoadConfig(r.path); r.fault == nil {
		r.cfg = cfg
	}
	r.secrets.AddEnvironment(os.Environ())
	for _, credential := range []string{"mqtt.password", "store.url", "archive.access_key", "archive.secret_key"} {
		_, v, err := service.Secret("", programName+"."+credential) // the environment is hidden already
		switch {
		case err != nil:
		case credential == "store.url":
			r.secrets.AddURL(v)
		default:
			r.secrets.Add(v)
		}
	}
	r.secrets.Add(string(r.cfg.MQTT.Password))
	r.secrets.Add(string(r.cfg.Archive.SecretKey))
	r.secrets.Add(r.cfg.Archive.AccessKey)
	r.secrets.AddURL(string(r.cfg.Store.URL))
	return r
}

func (r *supportReport) parts() []support.Part {
	const database = 10 * time.Second // for an answer of a database that may be far away
	return []support.Part{
		{Title: "build", Write: func(_ context.Context, w io.Writer) error { return support.Build(w, programName, version) }},
		{Title: "computer", Write: func(_ context.Context, w io.Writer) error { return support.Computer(w) }},
		{Title: "configuration", Write: r.configuration},
		{Title: "service", Write: func(ctx context.Context, w io.Writer) error { return support.Service(ctx, w, programName) }},
		{Title: "running", Write: r.running},
		{Title: "check", Limit: 2 * database, Write: r.check},
		{Title: "database", Limit: database, Write: r.database},
		{Title: "stations", Limit: database, Write: r.stations},
		{Title: "clock", Write: func(_ context.Context, w io.Writer) error { return CheckCmd{}.print(w, []finding{checkClock()}) }},
		{Title: "disk", Write: r.disk},
		{Title: "limits", Write: func(_ context.Context, w io.Writer) error { return support.Limits(w) }},
		{Title: "log", Limit: database, Write: func(ctx context.Context, w io.Writer) error { return support.Journal(ctx, w, programName) }},
	}
}

func (r *supportReport) configuration(_ context.Context, w io.Writer) error {
	support.Environment(w, os.Environ())
	if r.fault != nil {
		return r.fault
	}
	fmt.Fprintln(w, cmp.Or(r.path, "none, everything embedded"))
	for _, s := range configs.Settings(r.cfg) {
		value := cmp.Or(s.Value, "-")
		switch s.Key {
		case "store.url":
			value = redact(string(r.cfg.Store.URL))
		case "archive.access_key":
			value = configs.Secret(s.Value).String()
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", s.Key, value); err != nil {
			return err
		}
	}
	return nil
}

// running asks the collector of the data directory.
func (r *supportReport) running(ctx context.Context, w io.Writer) error {
	found, err := findRunning(r.cfg.Data)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no collector runs with the data directory %s", r.cfg.Data)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "process %d, API %s, broker %s\n", found.PID, found.HTTP, found.MQTT)
	for _, path := range []string{"/healthz", "/readyz"} {
		answer := "ok"
		if err := (remote{URL: found.HTTP}).call(ctx, http.MethodGet, path, nil, nil); err != nil {
			answer = err.Error()
		}
		fmt.Fprintf(w, "%s %s\n", path, answer)
	}
	return nil
}

// errUnread ends the parts that cannot do without a configuration.
var errUnread = errors.New("not tried: the configuration has faults")

func (r *supportReport) check(ctx context.Context, w io.Writer) error {
	if r.fault != nil {
		return errUnread
	}
	return CheckCmd{}.print(w, CheckCmd{}.try(ctx, r.cfg))
}

// open opens the database to look at it.
func (r *supportReport) open(ctx context.Context) (*store.DB, error) {
	if r.fault != nil {
		return nil, errUnread
	}
	return store.OpenExisting(ctx, string(r.cfg.Store.URL), quiet())
}

func (r *supportReport) database(ctx context.Context, w io.Writer) error {
	db, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	d, err := db.Describe(ctx)
	if err != nil {
		return unreachable(err, "store.url")
	}
	fmt.Fprintf(w, "%s, migration %d of %d\n", d, d.Migration, d.Newest)
	found, fault := db.Inventory(ctx)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range found.Migrations {
		fmt.Fprintf(t, "%s\t%s\n", m.Name, m.Applied.Format(time.RFC3339))
	}
	for _, table := range found.Tables {
		rows := ""
		if table.Rows >= 0 {
			rows = fmt.Sprintf("some %d rows", table.Rows)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", table.Name, configs.Bytes(table.Bytes), rows)
	}
	return errors.Join(fault, t.Flush())
}

func (r *supportReport) stations(ctx context.Context, w io.Writer) error {
	db, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	list, err := db.Stations(ctx)
	if err != nil {
		return unreachable(err, "store.url")
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no station has connected yet")
		return err
	}
	return printStations(w, list, time.Now())
}

func (r *supportReport) disk(_ context.Context, w io.Writer) error {
	for _, s := range append([]localStore{{"data", r.cfg.Data}}, r.cfg.localStores()...) {
		total, free, err := diskRoom(s.path)
		if err != nil {
			fmt.Fprintf(w, "%s %s: %v\n", s.name, s.path, err)
			continue
		}
		fmt.Fprintf(w, "%s %s: disk of %s, %s free\n", s.name, s.path, configs.Bytes(total), configs.Bytes(free))
	}
	if _, err := os.Stat(r.cfg.Data); err != nil {
		return nil //nolint:nilerr // that it is not there is said above
	}
	return support.Folder(w, strings.TrimSuffix(r.cfg.Data, "/"))
}
