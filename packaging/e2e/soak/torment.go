package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
)

// wait waits, and tells whether it was not cut short.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// torment lets every actor do its worst until the time is over.
func (w *world) torment(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, w.options.For)
	defer cancel()
	var actors sync.WaitGroup
	var mu sync.Mutex // guards errs
	var errs []error
	run := func(name string, act func() error) {
		actors.Go(func() {
			if err := act(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				cancel()
			}
		})
	}
	for _, s := range w.stations {
		for i, a := range s.agents {
			run(a.name, func() error { return w.tormentAgent(ctx, a, i) })
			if w.options.has("link") || s.policy.Full {
				run(a.name, func() error { return w.tormentLink(ctx, a) })
			}
		}
	}
	for _, c := range w.collectors {
		run(c.name, func() error { return w.tormentCollector(ctx, c) })
	}
	o := w.options
	if o.has("broker") {
		run("broker", func() error { return w.tormentBroker(ctx) })
	}
	if o.has("database") {
		run("database", func() error { return w.tormentDatabase(ctx) })
	}
	if o.has("objects") {
		run("objects", func() error { return w.tormentObjects(ctx) })
	}
	if o.has("captures") {
		run("captures", func() error { return w.orderCaptures(ctx) })
	}
	if o.has("poison") {
		run("poison", func() error { return w.poison(ctx) })
	}
	if len(w.mounted) > 0 {
		run("disk", func() error { return w.fillDisk(ctx, w.mounted[0]) })
	}
	actors.Wait()
	if parent.Err() != nil {
		errs = append(errs, parent.Err())
	}
	return errors.Join(errs...)
}

// tormentAgent gives an agent one life after another. A copy begins when there is something to copy.
func (w *world) tormentAgent(ctx context.Context, a *agent, index int) error {
	r := sequence(w.options.Seed, a.name)
	if index > 0 {
		if !wait(ctx, between(r, w.options.For/8, w.options.For/3)) {
			return nil
		}
		original := a.station.agents[0]
		original.mu.Lock()
		err := copyState(original.state, a.state)
		original.mu.Unlock()
		if err != nil {
			return fmt.Errorf("copy the spool: %w", err)
		}
		w.count("spool_copied")
	}
	for ctx.Err() == nil {
		l := drawAgentLife(r, w.options, w.agentPlaces)
		if a.station.policy.Skewed {
			if err := w.stepClock(a, r.IntN(12)); err != nil {
				return err
			}
		}
		hurt := a.station.policy.Damaged && r.IntN(3) == 0
		if err := w.liveAgent(ctx, a, l); err != nil {
			return err
		}
		if !hurt || ctx.Err() != nil {
			continue
		}
		done, err := w.hurt(ctx, a, r)
		if err != nil {
			return err
		}
		if done && r.IntN(2) == 0 { // else its next life is as short as any
			if err := w.mustStart(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// hurt damages the spool of an agent that is down, and tells whether it did.
func (w *world) hurt(ctx context.Context, a *agent, r *rand.Rand) (done bool, err error) {
	d, done, err := damage(r, a.state)
	if err != nil {
		return false, fmt.Errorf("damage the spool of %s: %w", a.name, err)
	}
	if done {
		a.station.damages = append(a.station.damages, d)
		w.count("damage_" + d.Kind)
		w.log.InfoContext(ctx, "damaged", "agent", a.name, "kind", d.Kind, "held", len(d.Held), "intact", len(d.Intact))
	}
	return done, nil
}

// stepClock sets an agent's clock somewhere else while it is down, or while it runs when the step is small.
func (w *world) stepClock(a *agent, dice int) error {
	steps := []string{"0s", "0s", "0s", "0s", "0s", "0s", "1s", "-1s", "1h", "-1h", "87600h", "-87600h"}
	w.count("clock_" + steps[dice])
	return os.WriteFile(a.clock, []byte(steps[dice]), 0o600)
}

// liveAgent is one life of an agent.
func (w *world) liveAgent(ctx context.Context, a *agent, l life) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return w.live(ctx, &a.child, "agent", l, func() bool { return a.station.policy.Full })
}

// live is one life of a program. excused tells whether it may end by itself.
func (w *world) live(ctx context.Context, c *child, role string, l life, excused func() bool) error {
	var env []string
	if l.failpoint != "" {
		env = append(env, "HEIMDALL_FAILPOINT="+l.failpoint)
	}
	if err := c.start(env...); err != nil {
		return err
	}
	w.log.DebugContext(ctx, "start", "program", c.name, "ending", l.ending, "lasts", l.lasts, "failpoint", l.failpoint)
	select {
	case <-ctx.Done():
	case <-time.After(l.lasts):
	case <-c.done:
		return w.endedItself(ctx, c, role, l, excused)
	}
	switch l.ending {
	case byPause:
		w.count(role + "_pause")
		c.pause()
		wait(ctx, l.paused)
		c.resume()
		wait(ctx, l.lasts/2)
		c.kill()
	case byStop:
		w.count(role + "_stop")
		if !c.stop(30 * time.Second) {
			w.violate("%s did not end within 30 s of SIGTERM: %s", c.name, c.lastWords())
		}
	case byFailpoint, byKill:
		w.count(role + "_kill")
		c.kill()
	}
	return nil
}

// endedItself judges a program that was not ended by us.
func (w *world) endedItself(ctx context.Context, c *child, role string, l life, excused func() bool) error {
	code := c.cmd.ProcessState.ExitCode()
	switch {
	case l.failpoint != "" && code < 0:
		place, _, _ := strings.Cut(l.failpoint, ":")
		w.count(role + "_failpoint")
		w.count("at " + place)
	case code < 0 || code == 2 || !excused():
		w.violate("%s ended by itself with %d (%v): %s", c.name, code, c.cmd.ProcessState, c.lastWords())
		wait(ctx, time.Second)
	default:
		w.count(role + "_gave_up")
		wait(ctx, 300*time.Millisecond)
	}
	return nil
}

// mustStart demands that a damaged spool leads to a running agent in 30 s.
func (w *world) mustStart(ctx context.Context, a *agent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	began := time.Now()
	if err := a.start(); err != nil {
		return err
	}
	defer a.kill()
	for !a.said("station is running") {
		if time.Since(began) > 30*time.Second || !a.running() {
			w.violate("%s does not run %v after its spool was damaged: %s", a.name, time.Since(began), a.lastWords())
			return nil
		}
		if !wait(ctx, 50*time.Millisecond) {
			return nil
		}
	}
	w.count("ran_after_damage")
	wait(ctx, time.Second)
	return nil
}

func (w *world) tormentCollector(ctx context.Context, c *collector) error {
	r := sequence(w.options.Seed, c.name)
	for ctx.Err() == nil {
		l := drawCollectorLife(r, w.options, w.collectorPlaces)
		// One that finds no server at its start says so and ends, for its supervisor to start it again.
		starting := time.Now()
		excused := func() bool { return time.Since(starting) < 90*time.Second && !c.said("is ready") }
		if err := w.live(ctx, &c.child, "collector", l, excused); err != nil {
			return err
		}
		wait(ctx, l.down)
	}
	return nil
}

func (w *world) tormentLink(ctx context.Context, a *agent) error {
	r := sequence(w.options.Seed, "link of "+a.name)
	for ctx.Err() == nil {
		sky := drawWeather(r)
		// A small spool fills only when nothing goes out for long.
		drought, lasts := r.IntN(3) == 0, between(r, 10*time.Second, 25*time.Second)
		if a.station.policy.Full && drought {
			sky.name, sky.faults, sky.lasts = "drought", proxy.Faults{Refuse: true}, lasts
			sky.cut = true
		}
		if sky.name != "clear" {
			w.count("link_" + sky.name)
		}
		a.link.Set(sky.faults)
		if sky.cut {
			a.link.Cut()
		}
		if sky.after > 0 {
			a.link.CutAfter(sky.after)
		}
		wait(ctx, sky.lasts)
	}
	a.link.Set(proxy.Faults{})
	return nil
}

// strike has an outage befall a server, and repairs it.
func (w *world) strike(ctx context.Context, name string, out outage, pause, resume, kill func(), start func(context.Context) error) error {
	if !wait(ctx, out.after) {
		return nil
	}
	if out.pause {
		w.count(name + "_pause")
		pause()
		wait(ctx, out.lasts)
		resume()
		return nil
	}
	w.count(name + "_kill")
	if out.length == "long" {
		w.count(name + "_long_outage")
	}
	w.log.InfoContext(ctx, "killed", "server", name, "down", out.lasts, "wiped", out.wiped)
	kill()
	wait(ctx, out.lasts)
	return start(context.WithoutCancel(ctx))
}

func (w *world) tormentBroker(ctx context.Context) error {
	r := sequence(w.options.Seed, "broker")
	for ctx.Err() == nil {
		out := drawOutage(r, w.options, 12*time.Second, false)
		kill := func() {
			w.broker.Kill()
			if out.wiped {
				w.count("broker_wiped")
				if err := w.broker.Wipe(); err != nil {
					w.violate("wipe the broker: %v", err)
				}
			}
		}
		if err := w.strike(ctx, "broker", out, w.broker.Pause, w.broker.Resume, kill, w.broker.Start); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) tormentDatabase(ctx context.Context) error {
	r := sequence(w.options.Seed, "database")
	for ctx.Err() == nil {
		out := drawOutage(r, w.options, 20*time.Second, true)
		if err := w.strike(ctx, "database", out, w.database.Pause, w.database.Resume, w.database.Kill, w.database.Start); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) tormentObjects(ctx context.Context) error {
	r := sequence(w.options.Seed, "objects")
	for ctx.Err() == nil {
		out := drawOutage(r, w.options, 20*time.Second, true)
		if err := w.strike(ctx, "objects", out, w.objects.Pause, w.objects.Resume, w.objects.Kill, w.objects.Start); err != nil {
			return err
		}
	}
	return nil
}

// fillDisk takes what room there is, and gives it back.
func (w *world) fillDisk(ctx context.Context, dir string) error {
	r := sequence(w.options.Seed, "disk")
	path := filepath.Join(dir, "filler")
	for ctx.Err() == nil {
		if !wait(ctx, between(r, 3*time.Second, 10*time.Second)) {
			break
		}
		w.count("disk_full")
		f, err := os.Create(path)
		if err != nil {
			continue // not even room for a name
		}
		for block := make([]byte, 64<<10); err == nil; {
			_, err = f.Write(block)
		}
		f.Close()
		wait(ctx, between(r, 2*time.Second, 8*time.Second))
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
