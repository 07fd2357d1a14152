package acquisition

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// eventKind says what happened.
type eventKind int

const (
	eventIssued   eventKind = iota // commands are on their way
	eventReply                     // a station replied
	eventAnswer                    // a station replied to a command that is of no acquisition, or cancels a part of one
	eventRecorded                  // the archive stored a recording
	eventUnfit                     // the archive cannot make a recording of what came
)

// event is something that changes an acquisition.
type event struct {
	kind        eventKind
	acquisition string
	issued      []string  // eventIssued: the commands
	failed      []failure // eventIssued, eventUnfit
	record      *protocol.Record
	recording   *protocol.Recording
}

// failure is why nothing will come from a station.
type failure struct{ station, code, message string }

// Observe learns from new records: replies, and chunks of captures. It may wait for the store.
func (c *Conductor) Observe(ctx context.Context, fresh []protocol.StoredRecord) {
	now := c.cfg.Now()
	for _, rec := range fresh {
		if chunk := rec.Record.GetIq(); chunk != nil {
			c.countChunk(rec.Record.GetStation(), chunk.GetCaptureId(), now)
		}
		reply := rec.Record.GetReply()
		switch {
		case reply == nil:
		case reply.GetAcquisition() == "":
			c.tell(ctx, event{kind: eventAnswer, record: rec.Record})
		default:
			c.noteReply(rec.Record.GetStation(), reply, now)
			c.tell(ctx, event{kind: eventReply, acquisition: reply.GetAcquisition(), record: rec.Record})
		}
	}
}

func (c *Conductor) countChunk(station, capture string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[station] = now
	if came, ok := c.chunks[capture]; ok || len(c.chunks) < maxCounted {
		c.chunks[capture] = arrived{came.chunks + 1, now}
	}
}

func (c *Conductor) noteReply(station string, reply *protocol.Reply, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[station] = now
	if _, ok := c.uploads[reply.GetCommandId()]; ok || len(c.uploads) < maxCounted {
		c.uploads[reply.GetCommandId()] = upload{
			capture: reply.GetCapture().GetId(), chunks: reply.GetCapture().GetChunks(), part: reply.GetProgress(), at: now,
		}
	}
}

// uploaded is how far the station is that follows a command, 0..1, in what its state says it does.
func (c *Conductor) uploaded(command string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.uploads[command]
	if u.chunks == 0 {
		return min(max(u.part, 0), 1)
	}
	return min(float64(c.chunks[u.capture].chunks)/float64(u.chunks), 1)
}

// RecordingStored tells that a recording is complete in the archive. Recordings of no acquisition are ignored.
func (c *Conductor) RecordingStored(ctx context.Context, r *protocol.Recording) {
	if r.Acquisition != "" {
		c.tell(ctx, event{kind: eventRecorded, acquisition: r.Acquisition, recording: r})
	}
}

// RecordingFailed tells that what a station sent for an acquisition can never become a recording.
func (c *Conductor) RecordingFailed(ctx context.Context, acquisition, station, message string) {
	c.tell(ctx, event{
		kind: eventUnfit, acquisition: acquisition,
		failed: []failure{{station: station, code: "recording_failed", message: message}},
	})
}

func (c *Conductor) tell(ctx context.Context, e event) {
	select {
	case c.events <- e:
	case <-ctx.Done():
	}
}

// wakeUp has the next scan come soon.
func (c *Conductor) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// StationOnline tells that a station has connected. What it has not answered is sent again at once: what was sent while it
// was away is lost.
func (c *Conductor) StationOnline(station string) {
	c.mu.Lock()
	c.returned[station] = true
	c.mu.Unlock()
	c.wakeUp()
}

// Run follows acquisitions until ctx ends. What it finds unsettled at the start it takes up again.
func (c *Conductor) Run(ctx context.Context) error {
	var beginning sync.WaitGroup
	defer beginning.Wait()
	beginning.Go(func() { c.begin(ctx) })
	next := time.NewTimer(0)
	defer next.Stop()
	idle := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-c.events:
			c.apply(ctx, c.gather(e))
			if idle {
				idle = false
				next.Reset(scanEvery)
			}
		case <-c.wake:
			next.Reset(0)
		case <-next.C:
			idle = !c.scan(ctx)
			if idle {
				next.Reset(scanIdle)
			} else {
				next.Reset(scanEvery)
			}
		}
	}
}

// gather takes what else has happened, up to maxBatch events in all: one transaction for all is quicker than one for each.
func (c *Conductor) gather(first event) []event {
	list := []event{first}
	for len(list) < maxBatch {
		select {
		case e := <-c.events:
			list = append(list, e)
		default:
			return list
		}
	}
	return list
}

// apply puts events into the store, trying again while that fails.
func (c *Conductor) apply(ctx context.Context, list []event) {
	var ids []string
	of := make(map[string][]event)
	for _, e := range list {
		if e.kind == eventAnswer && !c.resolve(ctx, &e) {
			continue
		}
		if of[e.acquisition] == nil {
			ids = append(ids, e.acquisition)
		}
		of[e.acquisition] = append(of[e.acquisition], e)
	}
	now := c.cfg.Now()
	c.update(ctx, ids, func(a *protocol.Acquisition) bool {
		changed := false
		for _, e := range of[a.ID] {
			if applyEvent(a, e, now) {
				changed = true
			}
		}
		return changed
	})
}

// resolve finds the acquisition of an answer to a cancel command. Where the store does not say, the answer is lost, and
// the station is told once more.
func (c *Conductor) resolve(ctx context.Context, e *event) bool {
	id, err := c.cfg.Store.CancelledBy(ctx, e.record.GetStation(), e.record.GetReply().GetCommandId())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.cfg.Log.DebugContext(ctx, "cannot look for what a command cancels", "error", err)
	}
	e.acquisition = id
	return err == nil
}

func applyEvent(a *protocol.Acquisition, e event, now time.Time) bool {
	switch e.kind {
	case eventIssued:
		return applyIssued(a, e.issued, e.failed)
	case eventReply:
		return applyReply(a, e.record, now)
	case eventAnswer:
		return applyAnswer(a, e.record.GetReply().GetCommandId())
	case eventRecorded:
		return applyRecording(a, e.recording)
	case eventUnfit:
		return applyFailures(a, e.failed)
	}
	return false
}

// update changes acquisitions in one transaction; change tells whether it did anything.
func (c *Conductor) update(ctx context.Context, ids []string, change func(*protocol.Acquisition) bool) {
	if len(ids) == 0 {
		return
	}
	for attempt := 0; ; attempt++ {
		changed := make(map[string]*protocol.Acquisition, len(ids))
		err := c.cfg.Store.UpdateAcquisitions(ctx, ids, func(a *protocol.Acquisition) bool {
			delete(changed, a.ID)
			if !change(a) {
				return false
			}
			summarize(a, c.uploaded)
			changed[a.ID] = a
			return true
		})
		switch {
		case err == nil:
			for _, id := range ids {
				if a := changed[id]; a != nil {
					c.forget(a)
					c.cfg.Changed(a)
				}
			}
			return
		case ctx.Err() != nil:
			return
		case oneRecord(err):
			if len(ids) == 1 {
				c.cfg.Log.ErrorContext(ctx, "the store refuses a change of an acquisition", "acquisition", ids[0], "error", err)
				return
			}
			for i := range ids { // the others need not suffer
				c.update(ctx, ids[i:i+1], change)
			}
			return
		}
		if attempt == 0 {
			c.cfg.Log.WarnContext(ctx, "cannot update acquisitions, trying again", "acquisition", ids[0], "acquisitions", len(ids), "error", err)
		}
		limit := retryMax
		if attempt < 8 {
			limit = min(limit, 200*time.Millisecond<<attempt)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(limit) + time.Millisecond):
		}
	}
}

// oneRecord tells whether the store refuses one of several things, and would take the others.
func oneRecord(err error) bool {
	var refused interface{ OneRecord() bool }
	return errors.As(err, &refused) && refused.OneRecord()
}

// forget stops repeating the commands of stations that have answered in any way.
func (c *Conductor) forget(a *protocol.Acquisition) {
	needed := make(map[string]bool, len(a.Stations))
	for _, o := range due(a, c.cfg.Now()) {
		needed[o.id] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.issued[a.ID] {
		if !needed[id] {
			c.cfg.Commander.Forget(id)
		}
	}
}
