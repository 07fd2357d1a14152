package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// ownSwitch is the station's own switch: files in its state directory. They are all that a command needs, with an agent or
// without, so that neither a restart nor a lost network turns it back on.
type ownSwitch struct{ dir string }

// pauseOf is what the file says while the station is paused. Until is set in the account of one that is over.
type pauseOf struct {
	Since  time.Time  `json:"since"`
	Reason string     `json:"reason,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
}

// says is the reason in the station's state.
func (p *pauseOf) says() string {
	if p.Reason != "" {
		return p.Reason
	}
	return "its owner wants so; `heimdall-agent resume` ends it"
}

// String says it to those who would hear something.
func (p *pauseOf) String() string {
	reason := ""
	if p.Reason != "" {
		reason = " (" + p.Reason + ")"
	}
	return fmt.Sprintf("the station is paused since %s%s; `heimdall-agent resume` ends it", p.Since.UTC().Format(time.RFC3339), reason)
}

func (s ownSwitch) paused() string  { return filepath.Join(s.dir, "paused") }
func (s ownSwitch) resumed() string { return filepath.Join(s.dir, "resumed") }

// read tells whether the station is paused; nil: it is not. A file of that name pauses it whatever it holds.
func (s ownSwitch) read() *pauseOf {
	info, err := os.Stat(s.paused())
	if err != nil {
		return nil
	}
	p := new(pauseOf)
	if text, err := os.ReadFile(s.paused()); err == nil && json.Unmarshal(text, p) == nil && !p.Since.IsZero() {
		p.Reason = protocol.CleanText(p.Reason, reasonBytes)
		return p
	}
	return &pauseOf{Since: info.ModTime()}
}

// pause sets the switch. One that is set stays as it is.
func (s ownSwitch) pause(now time.Time, reason string) error {
	if s.read() != nil {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("pause the station: %w", err)
	}
	text, err := json.Marshal(pauseOf{Since: now.UTC().Truncate(time.Second), Reason: reason})
	if err != nil {
		return fmt.Errorf("pause the station: %w", err)
	}
	if err := s.write(s.paused(), append(text, '\n'), os.O_TRUNC); err != nil {
		return fmt.Errorf("pause the station: %w", err)
	}
	return nil
}

// resume takes it back, and leaves word of how long it was so. It is false when it was not set.
func (s ownSwitch) resume(now time.Time) (bool, error) {
	p := s.read()
	if p == nil {
		return false, nil
	}
	until := now.UTC()
	p.Until = &until
	text, err := json.Marshal(p)
	if err == nil {
		err = s.write(s.resumed(), append(text, '\n'), os.O_APPEND)
	}
	if err == nil {
		err = os.Remove(s.paused())
	}
	if err != nil {
		return true, fmt.Errorf("resume the station: %w", err)
	}
	return true, nil
}

// over are the pauses that ended and that nobody has declared yet.
func (s ownSwitch) over() ([]pauseOf, error) {
	text, err := os.ReadFile(s.resumed())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []pauseOf
	for line := range bytes.Lines(text) {
		var p pauseOf
		if json.Unmarshal(line, &p) == nil && p.Until != nil { // a line that power took half of says nothing
			all = append(all, p)
		}
	}
	return all, nil
}

func (s ownSwitch) declared() error { return os.Remove(s.resumed()) }

// write puts a text on disk, for the account that the directory belongs to.
func (s ownSwitch) write(path string, text []byte, how int) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|how, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if owner, err := os.Stat(s.dir); err == nil {
		if err := sameOwner(owner, path); err != nil {
			return err
		}
	}
	return f.Sync()
}

// duty has the receivers work, but while the station is paused.
type duty struct {
	agent *Agent
	own   ownSwitch
	// look is asked by those who turned the switch; closed when what it says has been done. Capacity 0.
	look chan chan struct{}

	mu  sync.Mutex // guards now
	now *pauseOf   // nil: not paused

	failed []error // of surveys; only run's goroutine uses it
}

func newDuty(a *Agent) *duty {
	d := &duty{agent: a, own: ownSwitch{a.cfg.Spool.Path}, look: make(chan chan struct{})}
	d.now = d.own.read()
	a.orders.setPaused(d.now != nil)
	return d
}

// paused tells whether the station is, and why.
func (d *duty) paused() *pauseOf {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// obey has the switch looked at, and waits until what it says has been done.
func (d *duty) obey(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.look <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run works until the context ends.
func (d *duty) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var asked chan struct{}
	var stop func() // of what the receivers do; nil: nothing
	for {
		before, now := d.paused(), d.own.read()
		d.set(now)
		switch {
		case now != nil && stop != nil:
			stop()
			stop = nil
			d.forget(ctx)
		case now == nil && stop == nil:
			stop = d.begin(ctx)
		}
		if now == nil {
			d.declare(ctx, before)
		}
		if asked != nil {
			close(asked)
			asked = nil
		}
		select {
		case <-ctx.Done():
			if stop != nil {
				stop()
			}
			return errors.Join(d.failed...)
		case <-tick.C:
		case asked = <-d.look:
		}
	}
}

// set ends orders under way before the receivers, whose silence they would otherwise report.
func (d *duty) set(now *pauseOf) {
	d.mu.Lock()
	d.now = now
	d.mu.Unlock()
	d.agent.orders.setPaused(now != nil)
}

// begin has every receiver survey.
func (d *duty) begin(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	errs := make([]error, len(d.agent.receivers))
	for i, r := range d.agent.receivers {
		working.Go(func() { errs[i] = r.survey.Run(ctx) })
	}
	return func() {
		cancel()
		working.Wait()
		d.failed = append(d.failed, errs...)
	}
}

// forget empties what was heard before the pause.
func (d *duty) forget(ctx context.Context) {
	for _, r := range d.agent.receivers {
		r.history.Clear()
	}
	d.agent.log.InfoContext(ctx, "the station is paused: its receivers are closed, and what they heard last is forgotten", "reason", d.paused().says())
}

// declare makes a Gap of each pause that is over, also of one that ended by nothing but the removal of its file. While the clock is
// not set it waits: who would understand the times?
func (d *duty) declare(ctx context.Context, before *pauseOf) {
	a := d.agent
	if !a.clock.Reading().Set {
		return
	}
	over, err := d.own.over()
	if err != nil {
		a.log.WarnContext(ctx, "cannot read how long the station was paused", "error", err)
		return
	}
	if before != nil && len(over) == 0 {
		until, ended := a.now(), *before // others may be reading before
		ended.Until = &until
		over = append(over, ended)
	}
	for _, p := range over {
		a.log.InfoContext(ctx, "the station is no longer paused", "since", protocol.FormatTime(p.Since))
		if err := a.publisher.Put(context.WithoutCancel(ctx), p.gap(a)); err != nil {
			a.log.WarnContext(ctx, "cannot declare how long the station was paused", "error", err)
			return
		}
	}
	if err := d.own.declared(); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.WarnContext(ctx, "cannot remove what is declared: it will be again", "error", err)
	}
}

// gap tells of a time in which nothing was numbered.
func (p pauseOf) gap(a *Agent) *protocol.Record {
	from, to := p.Since.UnixNano(), p.Until.UnixNano()
	return stamp(&protocol.Record{Body: &protocol.Record_Gap{Gap: &protocol.Gap{
		Reason: protocol.Gap_REASON_PAUSED.Enum(), From: proto.Int64(min(from, to)), To: proto.Int64(to),
	}}}, a.clock.Reading())
}
