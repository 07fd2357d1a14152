package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// Agent is a station: its receivers, the spool that keeps what they heard, and the link that delivers it.
type Agent struct {
	cfg     Config
	version string
	log     *slog.Logger
	clock   *clock.Clock
	began   time.Duration // of the clock's Elapsed

	spool     *spool.Spool
	publisher publisher
	replies   replySink
	receivers []*receiver
	recorder  *recorder.Recorder
	orders    *orders
	duty      *duty
	daily     *quota.Budget // nil: any amount may be sent
	network   *network
	control   *controlServer
	metrics   *metricsServer    // nil: off
	notifier  *service.Notifier // nil: nobody watches

	mu   sync.Mutex // guards last
	last condition  // as found by the latest look
}

// OpenAgent makes the parts and takes the state directory. It opens no receiver and no connection.
func OpenAgent(ctx context.Context, cfg Config, version string, log *slog.Logger) (*Agent, error) {
	return openAgent(ctx, cfg, version, newClock(cfg, log), log)
}

func newClock(cfg Config, log *slog.Logger) *clock.Clock {
	return clock.New(clock.Config{Uncertainty: time.Duration(cfg.Clock.Uncertainty), Log: log.With("component", "clock")})
}

func openAgent(ctx context.Context, cfg Config, version string, c *clock.Clock, log *slog.Logger) (*Agent, error) {
	a := &Agent{cfg: cfg, version: version, log: log, clock: c, began: c.Elapsed()}
	limit, err := spoolLimit(cfg.Spool)
	if err != nil {
		return nil, err
	}
	a.spool, err = spool.Open(cfg.Spool.Path, spool.Options{
		Station: cfg.Station.ID, LimitBytes: limit, Keep: time.Duration(cfg.Delivery.Keep), Now: a.now, Log: log.With("component", "spool"),
	})
	if _, renamed := errors.AsType[*spool.StationError](err); renamed {
		return nil, fmt.Errorf("station.id: %s: %w", cfg.Station.ID, err)
	}
	if spool.IsFull(err) {
		return nil, fmt.Errorf("spool.path: the disk under %s is full: free space there, or name a directory on a larger disk: %w", cfg.Spool.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the spool in %s: %w", cfg.Spool.Path, err)
	}
	if err := a.assemble(ctx); err != nil {
		return nil, errors.Join(err, a.spool.Close())
	}
	return a, nil
}

// now is the time of day. It is for what becomes data; durations are measured with the clock's Elapsed or time.Since.
func (a *Agent) now() time.Time { return a.clock.Now() }

// uptime is how long the agent has been there.
func (a *Agent) uptime() time.Duration { return a.clock.Elapsed() - a.began }

// wallOf is a clock for receivers that have none of their own.
func wallOf(c *clock.Clock) radio.Wall {
	return func() (now time.Time, quality protocol.TimeQuality, uncertainty time.Duration) {
		r := c.Reading()
		return r.Time, r.Quality, r.Uncertainty
	}
}

// assemble makes everything that stands on the spool.
func (a *Agent) assemble(ctx context.Context) error {
	a.publisher = publisher{station: a.cfg.Station.ID, spool: a.spool, clock: a.clock}
	a.openDaily()
	a.publisher.held = newHeld(a.publisher, a.log.With("component", "clock"))
	a.replies = replySink{a.publisher}
	sources := make([]recorder.Receiver, 0, len(a.cfg.Receivers))
	hosts := radio.NewHosts()
	for _, cfg := range a.cfg.Receivers {
		r, err := newReceiver(cfg, a.publisher, wallOf(a.clock), hosts, a.log)
		if err != nil {
			return err
		}
		a.receivers = append(a.receivers, r)
		sources = append(sources, recorder.Receiver{ID: cfg.ID, History: r.history, Info: r.survey.Info, Table: r.table})
	}
	var err error
	a.recorder, err = recorder.New(recorder.Settings{
		Receivers: sources, Sink: a.replies, NewMeter: a.newCaptureMeter,
		Permit: a.cfg.Control.permit, Afford: a.affordsIQ, MayTune: a.cfg.Control.allows("tune"), LongestTune: time.Duration(a.cfg.Control.MaxDuration),
		Recorder: "heimdall-agent/" + a.version, Now: a.now, Log: a.log.With("component", "recorder"),
	})
	if err != nil {
		return err
	}
	a.orders = newOrders(a, a.log.With("component", "orders"))
	a.duty = newDuty(a)
	if a.network, err = newNetwork(a); err != nil {
		return err
	}
	if a.metrics, err = listenMetrics(ctx, a); err != nil {
		return err
	}
	a.control, err = listenControl(ctx, a)
	if err != nil {
		a.log.WarnContext(ctx, "status and tap will not reach this agent", "error", err)
	}
	return nil
}

// newCaptureMeter measures a capture as one stretch, with the survey's own code.
func (a *Agent) newCaptureMeter(id string, info radio.Info) (recorder.Meter, error) {
	cfg := survey.Config{MaskDC: info.MaskDC}
	for _, r := range a.receivers {
		if r.cfg.ID == id {
			cfg.FFT, cfg.Calibration = r.cfg.FFT, r.cfg.Calibration.survey()
		}
	}
	return survey.NewMeter(cfg)
}

// Run works until the context ends. Then it stops in the order in which data flows: receivers, orders, the last word to
// the network, the spool.
func (a *Agent) Run(ctx context.Context) error {
	lasting := context.WithoutCancel(ctx)
	spoolCtx, stopSpool := context.WithCancel(lasting)
	linkCtx, stopLink := context.WithCancel(lasting)
	defer stopSpool()
	defer stopLink()

	var keeping, delivering, working sync.WaitGroup
	var spoolErr, linkErr error
	keeping.Go(func() { spoolErr = a.spool.Run(spoolCtx) })
	delivering.Go(func() { linkErr = a.network.run(linkCtx) })
	var surveyErr error
	working.Go(func() { surveyErr = a.duty.run(ctx) })
	working.Go(func() { (&reporter{agent: a, log: a.log.With("component", "reporter")}).run(ctx) })
	working.Go(func() { a.orders.run(ctx) })
	working.Go(func() { _ = a.clock.Run(ctx) }) // which ends with the context only
	working.Go(func() { a.publisher.held.run(ctx) })
	if a.control != nil {
		working.Go(func() { a.control.run(ctx, a.log.With("component", "control")) })
	}
	if a.metrics != nil {
		working.Go(func() { a.metrics.run(ctx, a.log.With("component", "metrics")) })
	}
	working.Go(func() { a.notifier.Watch(ctx, a.stuck) })
	a.notifier.Ready(a.summary(a.condition()))
	engine, _ := dsp.Engine() // it has been asked before: there is one
	a.log.InfoContext(ctx, "station is running", "station", a.cfg.Station.ID, "version", a.version, "spool", a.cfg.Spool.Path, "dsp", engine)

	<-ctx.Done()
	a.notifier.Stopping()
	working.Wait()
	heldErr := errors.Join(a.tellLeftOut(lasting, true), a.letGo(lasting))
	a.drain(lasting)
	stopLink()
	delivering.Wait()
	stopSpool()
	keeping.Wait()
	a.log.InfoContext(ctx, "station has stopped", "station", a.cfg.Station.ID, "uptime", a.uptime().Round(time.Second), "records_waiting", a.spool.Stats().Records)
	return errors.Join(surveyErr, heldErr, linkErr, spoolErr, a.Close())
}

// letGo stores what still waits for the clock to be set, as it is.
func (a *Agent) letGo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if n := a.publisher.held.size(); n > 0 {
		a.log.WarnContext(ctx, "stopping while the clock is not set: records are stored without a true time", "records", n)
	}
	if err := a.publisher.held.end(ctx); err != nil {
		return fmt.Errorf("store what waited for the clock: %w", err)
	}
	return nil
}

// drainTime is how long a stopping agent goes on delivering what it has.
const drainTime = 5 * time.Second

// drain waits until everything is acknowledged, as long as somebody is there to do so. What is left is sent after the
// next start.
func (a *Agent) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for a.network.status().CollectorOnline && !a.spool.Unacked().Empty() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close gives the state directory back. Run does it itself.
func (a *Agent) Close() error {
	if a.control != nil {
		a.control.listener.Close() // which removes the socket; after Run it is closed already
	}
	if a.metrics != nil {
		a.metrics.listener.Close()
	}
	err := a.closeDaily()
	if closing := a.spool.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("close the spool: %w", closing))
	}
	return err
}

func (a *Agent) brokerStatus() linkStatus {
	s := a.network.status()
	s.Acknowledged = a.acknowledged()
	return s
}

// acknowledged counts the records of the present spool that need no further care.
func (a *Agent) acknowledged() uint64 {
	unacked := a.spool.Unacked().Count() // first: numbers may be given in between
	return a.spool.Stats().LastSeq - unacked
}

// status gathers what the control socket answers.
func (a *Agent) status() status {
	stats := a.spool.Stats()
	st := status{
		Station: a.cfg.Station.ID, Version: a.version, UptimeS: round(a.uptime().Seconds(), 1e3), StateDir: a.cfg.Spool.Path,
		State: a.state(a.condition()), Info: a.info(), Clock: a.clockStatus(),
		Spool: spoolStatus{
			Identity: fmt.Sprintf("%x", stats.Identity), Records: stats.Records, Bytes: stats.Bytes, LimitBytes: stats.Limit,
			LastSeq: stats.LastSeq, Shed: stats.Shed, Disk: newDiskStatus(a.cfg.Spool.Path, stats),
		},
		Broker: a.brokerStatus(),
	}
	if a.daily != nil {
		account := a.daily.Account()
		st.Daily = &account
	}
	return st
}
