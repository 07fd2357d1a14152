// Package quota keeps what a station sends within delivery.daily_bytes, and decides what it leaves out for that.
//
// A day is one of UTC. What may have been sent grows with the hour, from a small head start to a little less than all: what is left is
// for what cannot be helped, such as keep-alives. So a station that has too much to say is heard all day, in less detail, instead of
// until noon; and hours in which little happened leave room for others in which much does. How much of the allowance is left decides
// what is still stored: first no IQ is taken, then fewer spectra, then measurements become averages of longer stretches, then
// detections and at last health go. Replies and gaps are always stored. Records of earlier days are sent when all of today's would be.
// Should the day's bytes be used up all the same, nothing at all is sent until the next day.
package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// headStart and lastStart are the parts of the limit that may be used at the beginning and at the end of a day.
	headStart, lastStart = 0.02, 0.96
	// usedUp is the part at which nothing is sent any more. The rest is for what is on its way.
	usedUp = 0.99
	// writtenAhead is the part that may be used before the file is written again: what a crash forgets is counted beforehand.
	writtenAhead = 0.005

	packetBytes  = 1448 // of a full TCP segment
	headerBytes  = 52   // of TCP and IP in each
	messageBytes = 110  // of topic, identity and headers around a record that travels alone
)

// needs is how much of the allowance must be left for a class of records, as a part of the limit. Others are always stored.
var needs = map[protocol.Kind]float64{
	protocol.KindIQ: 0.010, protocol.KindSpectrum: 0.006, protocol.KindMeasurement: 0.003, protocol.KindDetection: 0, protocol.KindHealth: -0.005,
}

// Order lists what is left out, first to last.
func Order() []protocol.Kind {
	return []protocol.Kind{protocol.KindIQ, protocol.KindSpectrum, protocol.KindMeasurement, protocol.KindDetection, protocol.KindHealth}
}

// Budget is the account of a day. Its methods may be called from any goroutine.
type Budget struct {
	limit float64
	path  string
	now   func() (now time.Time, set bool)
	log   *slog.Logger

	file sync.Mutex // held while the file is written, which a card may take seconds for

	// mu guards the fields below.
	mu      sync.Mutex
	day     string
	used    float64 // bytes sent today
	stored  float64 // what the file says of it
	storing bool    // the file is being written with more
	owed    float64 // bytes of today's records that were not handed to the link yet
	last    uint64  // highest number of a record
	before  uint64  // highest number of earlier days, or of an earlier run
	without map[protocol.Kind]bool
}

// daily is the file.
type daily struct {
	Day   string  `json:"day"`
	Bytes float64 `json:"bytes"`
}

// Open reads the account in a file; one that is missing or damaged begins anew. now tells the time, and whether that is known. last
// is the highest number of a record so far.
func Open(path string, limit int64, last uint64, now func() (time.Time, bool), log *slog.Logger) *Budget {
	b := &Budget{limit: float64(limit), path: path, now: now, log: log, last: last, before: last, without: map[protocol.Kind]bool{}}
	text, err := os.ReadFile(path)
	var d daily
	if err == nil && json.Unmarshal(text, &d) == nil && d.Bytes >= 0 {
		b.day, b.used, b.stored = d.Day, d.Bytes, d.Bytes
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("cannot read what was sent today: it counts from now on", "file", path, "error", err)
	}
	return b
}

// Close stores the account exactly.
func (b *Budget) Close() error {
	b.mu.Lock()
	now := daily{b.day, b.used}
	b.mu.Unlock()
	return b.write(now)
}

// Wrote counts bytes given to the network in one piece. Who asks for the account meanwhile does not wait for the disk.
func (b *Budget) Wrote(n int) {
	b.mu.Lock()
	b.turn()
	b.used += float64(n + headerBytes*((n+packetBytes-1)/packetBytes))
	due := b.used > b.stored && !b.storing
	ahead := daily{b.day, b.used + writtenAhead*b.limit}
	b.storing = b.storing || due
	b.mu.Unlock()
	if !due {
		return
	}
	if err := b.write(ahead); err != nil { // it is tried again when so much was sent
		b.log.Warn("cannot store what was sent today: a restart would forget some of it", "file", b.path, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.storing = false
	if b.day == ahead.Day {
		b.stored = ahead.Bytes
	}
}

// Afford tells whether a record of a class can be stored, or something larger of that class be begun.
func (b *Budget) Afford(kind protocol.Kind, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	need, limited := needs[kind]
	left, known := b.left()
	if !limited || !known || left-float64(bytes) >= need*b.limit {
		return true
	}
	b.without[kind] = true
	return false
}

// Stored counts a record that will have to be sent, with its number.
func (b *Budget) Stored(seq uint64, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn()
	b.last = max(b.last, seq)
	b.owed += float64(bytes + messageBytes)
}

// MaySend tells whether a record may be sent now; one of today may, and is no longer owed.
func (b *Budget) MaySend(kind protocol.Kind, seq uint64, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, known := b.left()
	switch {
	case b.usedUp():
		return false
	case seq > b.before:
		b.owed = max(0, b.owed-float64(bytes+messageBytes))
	case kind == protocol.KindReply || kind == protocol.KindGap || !known:
	default:
		return left-float64(bytes) >= needs[protocol.KindSpectrum]*b.limit
	}
	return true
}

// UsedUp tells that nothing may be sent until the next day.
func (b *Budget) UsedUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn()
	return b.usedUp()
}

func (b *Budget) usedUp() bool { return b.used >= usedUp*b.limit }

// Account is what a budget comes to today.
type Account struct {
	Day        string          `json:"day"` // of UTC
	LimitBytes int64           `json:"limit_bytes"`
	UsedBytes  int64           `json:"used_bytes"`
	LeftBytes  int64           `json:"left_bytes"`
	LeftOut    []protocol.Kind `json:"left_out,omitempty"` // classes of which something was, in the order in which they go
	UsedUp     bool            `json:"used_up,omitempty"`
}

// Account tells how it stands.
func (b *Budget) Account() Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn()
	a := Account{
		Day: b.day, LimitBytes: int64(b.limit), UsedBytes: int64(b.used), LeftBytes: int64(max(0, b.limit-b.used)), UsedUp: b.usedUp(),
	}
	for _, kind := range Order() {
		if b.without[kind] {
			a.LeftOut = append(a.LeftOut, kind)
		}
	}
	return a
}

// left is how much of the allowance is. Without a clock nobody knows. The caller holds mu.
func (b *Budget) left() (bytes float64, known bool) {
	now, set := b.turn()
	if !set {
		return 0, false
	}
	passed := float64(now.Sub(now.Truncate(24*time.Hour))) / float64(24*time.Hour)
	return b.limit*(headStart+(lastStart-headStart)*passed) - b.used - b.owed, true
}

// turn begins a new day. Until the clock is set, it is the one that it was. The caller holds mu.
func (b *Budget) turn() (now time.Time, set bool) {
	now, set = b.now()
	now = now.UTC()
	if day := now.Format(time.DateOnly); set && day != b.day {
		if b.day != "" {
			b.used, b.owed, b.before = 0, 0, b.last
		}
		b.day, b.stored = day, 0
		clear(b.without)
	}
	return now, set
}

// write stores an account.
func (b *Budget) write(d daily) error {
	b.file.Lock()
	defer b.file.Unlock()
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("store what was sent today: %w", err)
	}
	if err := wholefile.Write(b.path, append(text, '\n'), 0o600, nil); err != nil {
		return fmt.Errorf("store what was sent today: %w", err)
	}
	return nil
}
