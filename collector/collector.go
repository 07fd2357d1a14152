package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/command"
	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/collector/lease"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/resend"
	"github.com/fulgidus/heimdall/collector/retention"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// Collector gathers what stations send: from the broker through ingest into the store, captures from there into the archive,
// all of it readable through the API.
type Collector struct {
	cfg     Config
	version string
	log     *slog.Logger

	data         *dataDir
	store        *store.DB
	archive      *archive.Archive
	broker       *link.Broker // nil with an outside broker
	accounts     *accounts.Keeper
	dynsec       *accounts.Dynsec // nil: the accounts are elsewhere
	trust        trust
	client       *link.Client
	ingest       *ingest.Ingest
	mirror       *ingest.Mirror // nil when it is off
	commands     *command.Dispatcher
	acquisitions *acquisition.Conductor
	jobs         *lease.Keeper[*store.Lease]
	events       *api.Hub
	http         net.Listener
	server       *http.Server
	notifier     *service.Notifier // nil: nobody watches

	mu      sync.Mutex // guards unready
	unready error      // why the tables cannot be used yet; nil once they are up to date
}

// Open takes the data directory and the ports, and brings the database up to date. It fails on what can never work; a
// broker, database or object store that does not answer yet is waited for in Run.
func Open(ctx context.Context, cfg Config, version string, log *slog.Logger) (*Collector, error) {
	c := &Collector{cfg: cfg, version: version, log: log, events: api.NewHub(), unready: errors.New("its tables are not up to date yet")}
	parts := []func(context.Context) error{c.openData, c.openPorts, c.openStore, c.openArchive, c.openAccounts, c.openTrust, c.openLink, c.openAPI}
	if _, err := os.Stat(cfg.Data); errors.Is(err, fs.ErrNotExist) {
		parts[0], parts[1] = parts[1], parts[0] // a start that finds its ports taken leaves no directory behind
	}
	for _, open := range parts {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

func (c *Collector) component(name string) *slog.Logger { return c.log.With("component", name) }

// wakeArchive has complete captures assembled at once: a capture's last reply comes after its samples.
func (c *Collector) wakeArchive(_ context.Context, fresh []protocol.StoredRecord) {
	for _, r := range fresh {
		if kind := r.Record.Kind(); kind == protocol.KindReply || kind == protocol.KindIQ {
			c.archive.Wake()
			return
		}
	}
}

// tellRecords, tellAcquisition and tellStation feed the API's events.
func (c *Collector) tellRecords(ctx context.Context, fresh []protocol.StoredRecord) {
	for _, r := range fresh {
		if err := c.events.Record(r); err != nil {
			c.log.ErrorContext(ctx, "cannot tell of a record", "error", err)
		}
	}
}

func (c *Collector) tellAcquisition(a *protocol.Acquisition) {
	if err := c.events.Acquisition(a); err != nil {
		c.log.Error("cannot tell of an acquisition", "id", a.ID, "error", err)
	}
}

func (c *Collector) tellStation(ctx context.Context, id string) {
	station, err := c.store.Station(ctx, id)
	if err == nil {
		err = c.events.Station(station)
	}
	if err != nil && ctx.Err() == nil { // an orderly stop is no failure
		c.log.WarnContext(ctx, "cannot tell of a station", "station", id, "error", err)
	}
}

// missStations notes which stations are no longer there: a broker that lost what it retained, and an agent that ended while no
// broker ran, leave nobody to say so.
func (c *Collector) missStations(ctx context.Context, since time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retainedWithin):
		}
		missed, err := c.store.MissStations(ctx, since)
		for _, id := range missed {
			c.log.InfoContext(ctx, "a station is no longer there", "station", id)
			c.tellStation(ctx, id)
		}
		if err == nil {
			return
		}
		c.log.DebugContext(ctx, "cannot note which stations are no longer there, trying again", "error", err)
	}
}

// localURL is where commands on this computer reach the API.
func (c *Collector) localURL() string {
	scheme := map[bool]string{true: "https://", false: "http://"}[c.cfg.HTTP.secure()]
	if a, ok := c.http.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		return scheme + net.JoinHostPort("127.0.0.1", c.httpPort())
	}
	return scheme + c.HTTPAddr()
}

// HTTPAddr is the address of the API, with the actual port.
func (c *Collector) HTTPAddr() string { return c.http.Addr().String() }

// BrokerURL is where stations connect.
func (c *Collector) BrokerURL() string {
	if c.broker != nil {
		return c.broker.URL()
	}
	return c.cfg.MQTT.URL
}

// errDatabaseFirst is no fault of the broker.
var errDatabaseFirst = errors.New("not connected yet: the database comes first")

// conditions is what /readyz answers, and why other addresses answer 503. It says so in time for whoever probes, also
// where a database or an object store swallows every packet.
func (c *Collector) conditions(ctx context.Context) []api.Condition {
	ctx, cancel := context.WithTimeout(ctx, conditionTimeout)
	defer cancel()
	condition := func(name string, err error) api.Condition {
		if err != nil {
			return api.Condition{Name: name, Reason: err.Error()}
		}
		return api.Condition{Name: name, Ready: true}
	}
	broker, tables := c.client.Ready(), c.tablesReady()
	if tables != nil && errors.Is(broker, link.ErrNotConnected) {
		broker = errDatabaseFirst
	}
	return []api.Condition{
		condition("broker", broker),
		condition("database", cmp.Or(tables, c.ingest.Ready(), c.store.Ping(ctx))),
		condition("archive", c.archive.Check(ctx)),
	}
}

// Run works until the context ends or a part fails for good. It stops in the order in which data flows, so that what is
// committed is also acknowledged.
func (c *Collector) Run(ctx context.Context) error {
	if err := c.data.announce(running{PID: os.Getpid(), HTTP: c.localURL(), MQTT: c.BrokerURL()}); err != nil {
		return errors.Join(err, c.close())
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()
	var broker, link, work sync.WaitGroup
	run := func(ctx context.Context, group *sync.WaitGroup, part func(context.Context) error) {
		group.Go(func() {
			if err := part(ctx); err != nil {
				stop(err)
			}
		})
	}
	if c.broker != nil {
		run(brokerCtx, &broker, c.broker.Run)
	}
	run(ctx, &work, c.serve)
	run(ctx, &work, c.events.Run)
	c.notifier.Ready("waiting for the database")
	work.Go(func() { c.notifier.Watch(ctx, func() string { return c.stuck(ctx) }) })
	if err := c.migrate(ctx); err != nil {
		stop(err)
	} else {
		c.letIn(ctx)
		run(linkCtx, &link, c.client.Run)
		for _, part := range c.workers() {
			run(ctx, &work, part)
		}
		c.notifier.Status("running, API at " + c.localURL())
		c.log.InfoContext(ctx, "collector is running", "http", c.HTTPAddr(), "broker", c.BrokerURL(), "version", c.version)
	}
	<-ctx.Done()
	c.notifier.Stopping()
	work.Wait()
	stopLink()
	link.Wait()
	stopBroker()
	broker.Wait()
	failure := context.Cause(ctx)
	if errors.Is(failure, context.Canceled) {
		failure = nil // the caller's end, not a part's
	}
	return errors.Join(failure, c.close())
}

func (c *Collector) workers() []func(context.Context) error {
	parts := []func(context.Context) error{c.ingest.Run, c.archive.Run, c.commands.Run, c.acquisitions.Run, c.jobs.Run, c.accounts.Run}
	if c.mirror != nil {
		parts = append(parts, c.mirror.Run)
	}
	if c.trust.desk != nil {
		parts = append(parts, c.trust.desk.Run)
	}
	return parts
}

// groupJobs are what one collector does for all that share its database.
func (c *Collector) groupJobs() *lease.Keeper[*store.Lease] {
	process := c.cfg.ID + " " + uuid.Must(uuid.NewV7()).String()
	keep := c.cfg.Retention.keep()
	keep.Excess = c.excess()
	old := retention.New(keep, c.archive, c.component("retention"))
	return &lease.Keeper[*store.Lease]{
		Take: func(ctx context.Context, length time.Duration) (*store.Lease, error) {
			return c.store.TakeLease(ctx, "jobs", process, length)
		},
		Elsewhere: store.ErrLeaseHeld,
		Jobs: []func(context.Context, *store.Lease) error{
			func(ctx context.Context, l *store.Lease) error { return old.Run(ctx, l) },
			func(ctx context.Context, _ *store.Lease) error {
				return resend.New(c.store, c.store, c.commands, c.component("resend")).Run(ctx)
			},
		},
		Log: c.component("lease"),
	}
}

// tablesReady is nil once the database is up to date.
func (c *Collector) tablesReady() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unready
}

func (c *Collector) setTablesReady(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unready = err
}

// migrateRetry is the pause while the database does not answer.
const migrateRetry = time.Second

// retainedWithin is how soon after a subscription the broker has sent what it retains.
const retainedWithin = 5 * time.Second

// migrate brings the database up to date, waiting for one that does not answer. It fails when the context ends, and on a
// database of a newer version or of another program.
func (c *Collector) migrate(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		applied, err := c.store.Migrate(ctx)
		c.setTablesReady(err)
		if err == nil {
			if d, err := c.store.Describe(ctx); err == nil {
				c.log.InfoContext(ctx, "database is ready", "database", d.String(), "applied", applied, "migration", d.Migration)
			}
			c.missAdmin(ctx)
			return nil
		}
		if lasting(err) {
			return err
		}
		if attempt%60 == 0 && ctx.Err() == nil { // each minute
			c.log.ErrorContext(ctx, "database is not ready, trying on", "error", unreachable(err, "store.url"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(migrateRetry):
		}
	}
}

// serve answers the API until the context ends and the last request is answered.
func (c *Collector) serve(ctx context.Context) error {
	down := make(chan struct{}) // closed when the server is shut down; carries nothing
	cancelled := context.AfterFunc(ctx, func() {
		defer close(down)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if c.server.Shutdown(grace) != nil {
			c.server.Close()
		}
	})
	var err error
	if c.server.TLSConfig != nil {
		err = c.server.ServeTLS(c.http, "", "")
	} else {
		err = c.server.Serve(c.http)
	}
	if !cancelled() { // Serve returns when the shutdown begins
		<-down
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}

// close gives back what Open took, as far as it came.
func (c *Collector) close() error {
	var errs []error
	if c.http != nil {
		c.http.Close()
	}
	if c.broker != nil {
		errs = append(errs, c.broker.Close())
	}
	if c.archive != nil {
		errs = append(errs, c.archive.Close())
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	if c.data != nil {
		errs = append(errs, c.data.close())
	}
	return errors.Join(errs...)
}
