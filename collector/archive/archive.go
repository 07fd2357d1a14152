// Package archive keeps the IQ that stations delivered as SigMF recordings, in an S3-compatible object store or in a
// folder.
//
// A capture reaches the collector as chunks, stored one by one as they arrive, and a manifest in the last reply. Once
// all chunks are in, the archive joins them into
//
//	recordings/{acquisition or date}/{station}/{capture}.sigmf-data
//	recordings/{acquisition or date}/{station}/{capture}.sigmf-meta
//
// in this order, and then tells its [Source], which releases the chunks. A recording whose bytes or SHA-512 differ from
// the manifest never appears under its name, not even for a moment: the last chunk is handed to the store only after
// the whole has been checked. Every step may be repeated after a crash, since the same capture gives the same objects
// under the same names. Memory does not grow with the length of a capture.
//
// Sizes are bytes, times UTC.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// Source is where complete captures wait for their recording. All its methods may be called again for the same
// capture.
type Source interface {
	// CompleteCaptures lists captures all of whose chunks are in and that have neither a recording nor a failure.
	CompleteCaptures(ctx context.Context) ([]Capture, error)
	// Chunk gives the data of one chunk, counted from 0. A chunk that is no longer there is an error.
	Chunk(ctx context.Context, station, captureID string, index uint32) ([]byte, error)
	// FinishRecording records the recording as complete and releases the capture's chunks. Of two stations that gave
	// captures the same id, the later one's recording gets another: the call sets it.
	FinishRecording(ctx context.Context, recording *protocol.Recording) error
	// FailRecording records that the capture can never become a recording, so that it is not offered again.
	FailRecording(ctx context.Context, c Capture, reason string) error
}

// Capture is a capture whose chunks are all in.
type Capture struct {
	Station string
	// Reply is the reply with the manifest.
	Reply *protocol.Reply
	// Position is the station's place as published, nil when it is hidden or unknown.
	Position *protocol.Position
	// Detections are records of the same station that may overlap the capture. Those outside its time and band, or of
	// another receiver, are left out of the recording.
	Detections []*protocol.Record
}

// Config is what an archive needs.
type Config struct {
	// Location is s3://bucket[/prefix]?endpoint=http://host:port&region=name, or file:PATH.
	Location    string
	Credentials Credentials
	Source      Source
	// Interval is the longest time between two looks for complete captures; 0 means 5 s.
	Interval time.Duration
	// Now is the clock; nil means the system's.
	Now func() time.Time
	Log *slog.Logger
}

// Credentials are the keys of an S3 account. A folder needs none.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string
}

// Stats counts what an archive did since it was opened.
type Stats struct {
	RecordingsTotal uint64 // written and announced
	FailedTotal     uint64 // captures that can never become a recording
	RetriesTotal    uint64 // attempts that ended in a temporary fault
	BytesTotal      uint64 // of data in written recordings
	LastError       string // of the latest round; empty when all went well
}

// Archive writes and reads recordings.
type Archive struct {
	objects  objects
	source   Source
	interval time.Duration
	now      func() time.Time
	log      *slog.Logger
	wake     chan struct{} // capacity 1: a wake-up that is already waiting stands for any number

	mu    sync.Mutex // guards stats
	stats Stats
}

const (
	defaultInterval = 5 * time.Second
	// longestPause bounds the back-off while the object store or the source is out of order.
	longestPause = time.Minute
	// orphanAge is how long an upload may lie unfinished before it counts as left over by a crash.
	orphanAge = 24 * time.Hour
	// shortestPause is between two rounds that both had something to do.
	shortestPause = 50 * time.Millisecond
)

// Open makes an archive at a location. It fails on a location that can never work and on a folder that cannot be used;
// an object store that does not answer yet is no error here: [Archive.Run] keeps trying and [Archive.Check] says why.
func Open(_ context.Context, cfg Config) (*Archive, error) {
	store, err := openObjects(cfg.Location, cfg.Credentials)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a := &Archive{
		objects:  store,
		source:   cfg.Source,
		interval: cfg.Interval,
		now:      cfg.Now,
		log:      cfg.Log,
		wake:     make(chan struct{}, 1),
	}
	if a.interval <= 0 {
		a.interval = defaultInterval
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a, nil
}

// Check tells whether the archive can be used now. It makes the bucket if it is absent and the account may.
func (a *Archive) Check(ctx context.Context) error { return a.objects.check(ctx) }

// Wake makes Run look for complete captures at once. It never waits.
func (a *Archive) Wake() {
	select {
	case a.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// Stats gives the counters.
func (a *Archive) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Close releases what Open took. Call it after Run has returned and no object is open.
func (a *Archive) Close() error { return a.objects.close() }

// Run assembles complete captures until the context ends. It returns nil then: a fault is logged, counted and tried
// again.
func (a *Archive) Run(ctx context.Context) error {
	if err := a.objects.sweep(ctx, a.now().Add(-orphanAge)); err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "clearing unfinished uploads", "error", err)
	}
	faults := 0
	for {
		done := a.settled()
		faults = a.report(ctx, faults, a.Assemble(ctx))
		if !a.pause(ctx, faults, a.settled() > done) {
			return nil
		}
	}
}

// report logs the first fault of a series and its end, and returns the new length of the series. What fails because the
// context ended is no fault.
func (a *Archive) report(ctx context.Context, faults int, err error) int {
	if ctx.Err() != nil {
		return faults
	}
	a.mu.Lock()
	a.stats.LastError = ""
	if err != nil {
		a.stats.LastError = err.Error()
	}
	a.mu.Unlock()
	switch {
	case err != nil && faults%12 == 0: // with the back-off at its longest, each twelfth round is 12 minutes
		a.log.WarnContext(ctx, "captures wait for their recording", "error", err, "rounds", faults+1)
	case err == nil && faults > 0:
		a.log.InfoContext(ctx, "recordings are written again", "rounds", faults)
	}
	if err == nil {
		return 0
	}
	return faults + 1
}

// settled is the number of captures that ended in a recording or a failure.
func (a *Archive) settled() uint64 {
	s := a.Stats()
	return s.RecordingsTotal + s.FailedTotal
}

// pause waits for the next round, and tells whether there is one. A wake-up cuts the wait short, but not after a
// fault: each new chunk would otherwise turn into another attempt on a store that is down. Where something was settled
// there may be more, since the source lists a part at a time.
func (a *Archive) pause(ctx context.Context, faults int, progress bool) bool {
	wait, wake := a.interval, a.wake
	switch {
	case progress:
		wait = min(a.interval, shortestPause)
	case faults > 0:
		wait = min(a.interval<<min(faults-1, 10), max(longestPause, a.interval))
		wake = nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// Assemble makes the recording of every capture that is complete now. One capture's temporary fault does not keep the
// others waiting; the faults are returned together.
func (a *Archive) Assemble(ctx context.Context) error {
	captures, err := a.source.CompleteCaptures(ctx)
	if err != nil {
		return fmt.Errorf("list complete captures: %w", err)
	}
	if len(captures) == 0 {
		return nil
	}
	if err := a.objects.check(ctx); err != nil {
		return err
	}
	var faults []error
	for i := range captures {
		if ctx.Err() != nil {
			break
		}
		if err := a.assemble(ctx, &captures[i]); err != nil {
			a.mu.Lock()
			a.stats.RetriesTotal++
			a.mu.Unlock()
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// OpenData opens a recording's samples. The key is [protocol.Recording]'s. The error wraps [fs.ErrNotExist] when there
// is no such recording.
func (a *Archive) OpenData(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	return a.open(ctx, key+dataSuffix)
}

// OpenMeta opens a recording's metadata, like OpenData.
func (a *Archive) OpenMeta(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	return a.open(ctx, key+metaSuffix)
}

// Remove makes a recording's objects absent, as they may already be. The metadata goes first, so that samples without it,
// which are no recording, are what a crash in between leaves. Call it again then.
func (a *Archive) Remove(ctx context.Context, key string) error {
	for _, suffix := range []string{metaSuffix, dataSuffix} {
		if err := a.objects.remove(ctx, key+suffix); err != nil {
			return fmt.Errorf("remove %s: %w", key+suffix, err)
		}
		failpoint.Hit("archive.removed")
	}
	return nil
}

func (a *Archive) open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	object, err := a.objects.open(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	return object, nil
}
