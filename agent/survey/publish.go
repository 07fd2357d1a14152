package survey

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// queueLength is how many records may wait for the Publisher. At a measurement a second and a burst of 256 detections it is
// never full while the Publisher works; when it is, the survey waits, and Health says for how long.
const queueLength = 1024

// drainTime is how long records that wait are still published after the context has ended.
const drainTime = 5 * time.Second

// Publisher takes records over. It adds the station, gives the record a number that is never lost alone, and returns the
// record's id, {station}-{spool}-{seq}, without waiting for the disk; empty when the record is left out. It may keep the record. When it fails, the same
// record is offered again until it succeeds.
type Publisher interface {
	Publish(ctx context.Context, r *protocol.Record) (id string, err error)
}

// queued is one record on its way to the Publisher.
type queued struct {
	record *protocol.Record
	track  trackKey // zero for measurements and spectra
}

// trackKey names an emission across the records that speak of it. Tracks are counted by each Analyzer for itself.
type trackKey struct{ analyzer, track uint64 }

// publishQueue hands records to the Publisher in order and fills in detection ids.
type publishQueue struct {
	publisher Publisher
	log       *slog.Logger
	records   chan queued // capacity queueLength; when full the survey waits
	ids       map[trackKey]string
}

// run publishes until the queue is closed. After the context has ended it goes on for drainTime, and counts what it
// could not hand over.
func (q *publishQueue) run(ctx context.Context) (left int) {
	drain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if pause(drain, drainTime) {
			cancel()
		}
	})
	defer stop()
	for item := range q.records {
		if !q.publish(drain, item) {
			left++
		}
	}
	return left
}

// publish offers one record until it is taken or the context ends.
func (q *publishQueue) publish(ctx context.Context, item queued) bool {
	detection := item.record.GetDetection()
	if id, ok := q.ids[item.track]; ok && detection != nil {
		detection.DetectionId = proto.String(id)
	}
	last := detection != nil && !detection.GetOpen()
	for attempt := 0; ; attempt++ {
		id, err := q.publisher.Publish(ctx, item.record)
		if err == nil {
			if detection != nil {
				q.follow(item.track, id, last)
			}
			if attempt > 0 {
				q.log.InfoContext(ctx, "records are stored again", "attempts", attempt+1)
			}
			return true
		}
		if attempt == 0 || attempt%12 == 0 {
			q.log.ErrorContext(ctx, "record could not be stored, trying on", "attempts", attempt+1, "error", err)
		}
		if !pause(ctx, backOff(attempt, 100*time.Millisecond, 5*time.Second)) {
			return false
		}
	}
}

// follow remembers the id of an emission's first record until the last one.
func (q *publishQueue) follow(key trackKey, id string, last bool) {
	if last {
		delete(q.ids, key)
		return
	}
	if _, known := q.ids[key]; !known && id != "" {
		q.ids[key] = id
	}
}

// backOff doubles from first to most, and takes a random half off so that many do not come at once.
func backOff(attempt int, first, most time.Duration) time.Duration {
	d := most
	if attempt < 16 {
		d = min(first<<attempt, most)
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits, and is false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
