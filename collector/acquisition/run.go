package acquisition

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// eventKind says what happened.
type eventKind int

const (
	eventIssued   eventKind = iota // commands are on their way
	eventReply                     // a station replied
	eventRecorded                  // the archive stored a recording
	eventUnfit                     // the archive cannot make a recording of what came
)

// event is something that changes an acquisition.
type event struct {
	kind        eventKind
	acquisition string
	stations    []string  // eventIssued: those that will be told
	failed      []failure // eventIssued, eventUnfit
	record      *protocol.Record
	recording   *protocol.Recording
}

// failure is why nothing will come from a station.
type failure struct{ station, code, message string }

// errUnchanged ends an update that has nothing to write.
var errUnchanged = errors.New("unchanged")

// Observe learns from new records: replies, and chunks of captures. It may wait for the store.
func (c *Conductor) Observe(ctx context.Context, fresh []protocol.StoredRecord) {
	now := c.cfg.Now()
	for _, rec := range fresh {
		if chunk := rec.Record.GetIq(); chunk != nil {
			c.countChunk(rec.Record.GetStation(), chunk.GetCaptureId(), now)
		}
		if reply := rec.Record.GetReply(); reply.GetAcquisition() != "" {
			c.noteReply(rec.Record.GetStation(), reply, now)
			c.tell(ctx, event{kind: eventReply, acquisition: reply.GetAcquisition(), record: rec.Record})
		}
	}
}

func (c *Conductor) countChunk(station, capture string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[station] = now
	if _, ok := c.chunks[capture]; ok || len(c.chunks) < maxCounted {
		c.chunks[capture]++
	}
}

func (c *Conductor) noteReply(station string, reply *protocol.Reply, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[station] = now
	if _, ok := c.uploads[reply.GetCommandId()]; ok || len(c.uploads) < maxCounted {
		c.uploads[reply.GetCommandId()] = upload{
			capture: reply.GetCapture().GetId(), chunks: reply.GetCapture().GetChunks(), part: reply.GetProgress(),
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
	return min(float64(c.chunks[u.capture])/float64(u.chunks), 1)
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

// Run follows acquisitions until ctx ends. What it finds unsettled at the start it takes up again.
func (c *Conductor) Run(ctx context.Context) error {
	issued := make(map[string]bool) // acquisitions whose commands this process has issued
	next := time.NewTimer(0)
	defer next.Stop()
	idle := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-c.events:
			if e.kind == eventIssued {
				issued[e.acquisition] = true
			}
			c.apply(ctx, e)
			if idle {
				idle = false
				next.Reset(scanEvery)
			}
		case <-next.C:
			idle = !c.scan(ctx, issued)
			if idle {
				next.Reset(scanIdle)
			} else {
				next.Reset(scanEvery)
			}
		}
	}
}

// apply puts an event into the store, trying again while that fails.
func (c *Conductor) apply(ctx context.Context, e event) {
	c.update(ctx, e.acquisition, func(a *protocol.Acquisition) bool {
		switch e.kind {
		case eventReply:
			return applyReply(a, e.record)
		case eventRecorded:
			return applyRecording(a, e.recording)
		case eventIssued:
			return applyIssued(a, e.stations, e.failed)
		case eventUnfit:
			return applyFailures(a, e.failed)
		}
		return false
	})
}

// update changes one acquisition; change tells whether it did anything.
func (c *Conductor) update(ctx context.Context, id string, change func(*protocol.Acquisition) bool) {
	for attempt := 0; ; attempt++ {
		var changed *protocol.Acquisition
		err := c.cfg.Store.UpdateAcquisition(ctx, id, func(a *protocol.Acquisition) error {
			changed = nil
			if !change(a) {
				return errUnchanged
			}
			summarize(a, c.uploaded)
			changed = a
			return nil
		})
		var refused interface{ OneRecord() bool }
		switch {
		case err == nil && changed != nil:
			c.forget(changed)
			c.cfg.Changed(changed)
			return
		case err == nil, errors.Is(err, errUnchanged), ctx.Err() != nil:
			return
		case errors.Is(err, fs.ErrNotExist):
			c.cfg.Log.DebugContext(ctx, "a station answers for an acquisition that is not in the store", "acquisition", id)
			return
		case errors.As(err, &refused) && refused.OneRecord():
			c.cfg.Log.ErrorContext(ctx, "the store refuses a change of an acquisition", "acquisition", id, "error", err)
			return
		}
		if attempt == 0 {
			c.cfg.Log.WarnContext(ctx, "cannot update an acquisition, trying again", "acquisition", id, "error", err)
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

// forget stops repeating the commands of stations that have answered in any way.
func (c *Conductor) forget(a *protocol.Acquisition) {
	for _, s := range a.Stations {
		if s.State != protocol.StationQueued && s.State != protocol.StationSent {
			c.cfg.Commander.Forget(s.CommandID)
		}
	}
}

// scan looks after everything that is not settled: issues what this process has not issued yet, finishes and expires
// stations, and updates the progress. It tells whether there was anything.
func (c *Conductor) scan(ctx context.Context, issued map[string]bool) bool {
	list, err := c.cfg.Store.UnsettledAcquisitions(ctx)
	if err != nil {
		c.cfg.Log.DebugContext(ctx, "cannot read the unsettled acquisitions, trying again", "error", err)
		return true
	}
	now := c.cfg.Now()
	still := make(map[string]bool, len(list))
	for _, a := range list {
		still[a.ID] = true
		if !issued[a.ID] && age(a, now) > adoptAfter {
			issued[a.ID] = true
			c.adopt(ctx, a, now)
		}
		c.forget(a)
		progress := a.Progress
		if c.tidy(a, now) || a.Progress >= progress+1 {
			c.update(ctx, a.ID, func(a *protocol.Acquisition) bool {
				c.tidy(a, now)
				return true
			})
		}
	}
	for id := range issued {
		if !still[id] {
			delete(issued, id)
		}
	}
	if len(list) == 0 {
		c.mu.Lock()
		clear(c.heard)
		clear(c.chunks)
		clear(c.uploads)
		c.mu.Unlock()
	}
	return len(list) > 0
}

// age is how long ago an acquisition was asked for.
func age(a *protocol.Acquisition, now time.Time) time.Duration {
	requested, err := time.Parse(time.RFC3339Nano, a.Requested)
	if err != nil {
		return 0
	}
	return now.Sub(requested)
}

// adopt takes up an acquisition that another process began, or this one before it was started again.
func (c *Conductor) adopt(ctx context.Context, a *protocol.Acquisition, now time.Time) {
	c.mu.Lock()
	for _, s := range a.Stations {
		if _, ok := c.heard[s.Station]; !ok {
			c.heard[s.Station] = now // nobody knows when it was heard last: it gets the whole time again
		}
	}
	c.mu.Unlock()
	c.catchUp(ctx, a)
	if stations, failed := c.issue(ctx, a); len(stations)+len(failed) > 0 {
		c.apply(ctx, event{kind: eventIssued, acquisition: a.ID, stations: stations, failed: failed})
	}
}

// catchUp applies the replies that are in the store: a process that ended after their commit may have told nobody.
func (c *Conductor) catchUp(ctx context.Context, a *protocol.Acquisition) {
	requested, err := time.Parse(time.RFC3339Nano, a.Requested)
	if err != nil {
		return
	}
	filter := protocol.Filter{From: requested.Add(-clockTolerance), Limit: 1000}
	for _, s := range a.Stations {
		filter.Stations = append(filter.Stations, s.Station)
	}
	for {
		replies, next, err := c.cfg.Store.Records(ctx, protocol.KindReply, filter)
		if err != nil {
			c.cfg.Log.WarnContext(ctx, "cannot read the replies to an acquisition", "acquisition", a.ID, "error", err)
			return
		}
		for _, r := range replies {
			if r.Record.GetReply().GetAcquisition() == a.ID {
				c.apply(ctx, event{kind: eventReply, acquisition: a.ID, record: r.Record})
			}
		}
		if next == "" {
			return
		}
		filter.Cursor = next
	}
}

// tidy applies what needs no event: recordings that the archive has named, stations that fell silent, and the progress.
// It tells whether a station changed.
func (c *Conductor) tidy(a *protocol.Acquisition, now time.Time) bool {
	changed := finishRecorded(a)
	if applyFailures(a, c.silent(a, now)) {
		changed = true
	}
	summarize(a, c.uploaded)
	return changed
}

// silent lists the stations from which nothing more is to be expected.
func (c *Conductor) silent(a *protocol.Acquisition, now time.Time) []failure {
	requested, err1 := time.Parse(time.RFC3339Nano, a.Requested)
	start, err2 := time.Parse(time.RFC3339Nano, a.StartTime)
	if err1 != nil || err2 != nil {
		return nil
	}
	expires := expiry(a, requested, start)
	if now.Before(expires) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var silent []failure
	for _, s := range a.Stations {
		switch {
		case s.State.Settled():
		case s.State == protocol.StationQueued || s.State == protocol.StationSent:
			silent = append(silent, failure{s.Station, codeExpired, "the station did not answer before " + expires.Format(time.RFC3339)})
		case now.Sub(later(c.heard[s.Station], expires)) > silence:
			silent = append(silent, failure{s.Station, codeExpired, "nothing came from the station for " + silence.String()})
		}
	}
	return silent
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
