// Package acquisition asks several stations for the same stretch of time, and follows what becomes of it.
//
// One request becomes one command a station, all with the same start, so that the stations hear the same signal. Replies
// of the stations, and the recordings that the archive finishes, move each station through its states; the acquisition is
// done when at least one station is and nothing more will come from the others. Everything that matters is in the store:
// after a restart, or on another collector that shares the work, the next scan takes up what is not settled.
//
// With IQ, a station is done only when its recording is stored. A station that does not reply in time is expired, and so is
// one that has begun and then is silent for ten minutes, unless it lives and says that it still holds records of that time: a
// thin link may take days. After a week it is expired in any case: what it owes may be lost while it serves others. What an
// expired station delivers later is stored all the same, and its recording is named in the acquisition.
//
// A station that cannot serve now (busy, its receiver or itself not connected, restarted in the middle) is asked again, with
// growing pauses, until a minute after the end of what was asked for. The start does not move for that: all stations are to
// hear the same stretch, and what of it has passed is in their histories. Its message is the cause of the latest answer and, where
// that is another, of the first; the station's advice to order again is left out.
//
// Acquisitions are not queued behind one another here. At one tuning, stations cut any number of captures out of the same
// samples, side by side; those that need another tuning are the station's to refuse, with the earliest start. What asks
// exactly the same as an acquisition that has not started (the whole request, its label too, and the same stations) joins
// it: it gets the same acquisition, so who cancels it does so for all. Who wants one of his own gives it a label.
//
// Cancelling ends what has not started: stations that had not begun are cancelled at once, and told so until they have
// answered; one that captures or sends goes on. The wish is kept with the acquisition, which then asks nobody again.
package acquisition

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Store keeps acquisitions.
type Store interface {
	// CreateAcquisitions adds all of them, or none.
	CreateAcquisitions(ctx context.Context, list []*protocol.Acquisition) error
	// UpdateAcquisitions reads, changes and writes acquisitions in a single transaction. It writes those that change says it
	// changed, and passes over those that are not there.
	UpdateAcquisitions(ctx context.Context, ids []string, change func(*protocol.Acquisition) bool) error
	// UnsettledAcquisitions lists those that are queued or running, or of which a station has not answered a cancel command.
	UnsettledAcquisitions(ctx context.Context) ([]*protocol.Acquisition, error)
	// CancelledBy is the acquisition of which a cancel command speaks that a station has not answered; else an error matching
	// fs.ErrNotExist.
	CancelledBy(ctx context.Context, station, command string) (acquisition string, err error)
	// Records lists stored records of a kind, newest first, and gives the cursor of the next page.
	Records(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error)
}

// Commander gets a command to a station, repeating it until the station replies or it expires.
type Commander interface {
	Issue(ctx context.Context, station string, c *protocol.Command) error
	Forget(id string)
	// ReplyTime is how long after a command the reply of a station can be expected; false when nothing tells.
	ReplyTime(station string) (time.Duration, bool)
}

// Stations knows the stations.
type Stations interface {
	Stations(ctx context.Context) ([]protocol.Station, error)
}

// The defaults of Config, and what no operator needs to change.
const (
	defaultMaxDuration = protocol.MaxAcquisitionS * time.Second
	defaultIQBytes     = 256 << 20
	defaultLead        = 500 * time.Millisecond
	leadMin            = 200 * time.Millisecond
	leadMax            = 10 * time.Second
	leadSlack          = 50 * time.Millisecond // for the clocks of a station and of this host, and for what the agent does first
	clockTolerance     = 5 * time.Minute       // how far a station's clock may be behind
	maxAhead           = 7 * 24 * time.Hour
	maxLabelBytes      = protocol.MaxTextBytes

	afterEnd = time.Minute      // a command expires so long after the end of what it asks for
	silence  = 10 * time.Minute // a station that has begun is expired when nothing comes from it for so long
	// longestUpload is how long after the expiry a station is waited for that sends something, or says that it does.
	longestUpload = 7 * 24 * time.Hour
	scanEvery     = time.Second      // while something is not settled
	scanIdle      = 10 * time.Second // and else: another collector may have left something
	retryMax      = 30 * time.Second
	// Storing what callers of Create wish for at once takes no longer.
	mostCreating = 30 * time.Second
	// Whoever creates an acquisition issues its commands at once. When they are not answered by then, the others do, too.
	adoptAfter = 3 * time.Second

	// Replies and recordings that wait for the store. When it is full their sender waits: it needs the same store.
	maxEvents = 256
	maxBatch  = maxEvents // of them in one transaction
	// Captures whose chunks are counted at once. Over it the progress of the others stands still until they are stored.
	maxCounted = 10_000
)

// Config is what acquisitions work with. Zero limits take the defaults.
type Config struct {
	Store     Store
	Commander Commander
	Stations  Stations
	// Changed is told each new state of an acquisition. It must not block. May be nil.
	Changed func(*protocol.Acquisition)

	MaxDuration time.Duration // of one acquisition; default 1 h
	IQBytes     int64         // of one acquisition a station; default 256 MiB
	// Lead is how far ahead an acquisition without a start begins when it is not known how long its stations take to answer;
	// default 500 ms.
	Lead time.Duration

	Now func() time.Time // nil means time.Now
	Log *slog.Logger
}

// Conductor runs acquisitions.
type Conductor struct {
	cfg Config
	// events is what happened and is not yet in the store. Capacity maxEvents.
	events chan event
	// begun says that something was stored. Capacity 1: one notice is as good as many.
	begun chan struct{}
	// wake asks for a scan soon. Capacity 1: one notice is as good as many.
	wake chan struct{}
	// turn is held by the caller of Create that stores what all of them wish for. Capacity 1.
	turn chan struct{}

	mu       sync.Mutex              // guards all below
	wishes   []*wish                 // that nobody has begun to store
	stored   []*protocol.Acquisition // whose commands are to be sent for the first time
	ahead    map[string]ahead        // acquisitions that can be joined, by their sameness
	issued   map[string]orders       // of each acquisition, the commands that this process has given to the commander
	behind   map[string]bool         // acquisitions whose stored replies could not be read
	returned map[string]bool         // stations that have connected since the last scan
	heard    map[string]time.Time    // of each station with something under way, when it last sent a chunk or a reply
	chunks   map[string]arrived      // of each capture, how many chunks came
	uploads  map[string]upload       // of each command, what its last reply said is under way
}

// orders are commands that were issued, and when.
type orders map[string]time.Time

// upload is what a station is sending, or how far it is.
type upload struct {
	capture string
	chunks  uint32    // 0: not known yet
	part    float64   // 0..1, as the station says
	at      time.Time // of the reply
}

// arrived is how many chunks of a capture came, and when the last of them did.
type arrived struct {
	chunks uint32
	last   time.Time
}

// New makes a Conductor; Run follows what Create begins.
func New(cfg Config) *Conductor {
	if cfg.MaxDuration <= 0 {
		cfg.MaxDuration = defaultMaxDuration
	}
	if cfg.IQBytes <= 0 {
		cfg.IQBytes = defaultIQBytes
	}
	if cfg.Lead <= 0 {
		cfg.Lead = defaultLead
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Changed == nil {
		cfg.Changed = func(*protocol.Acquisition) {}
	}
	return &Conductor{
		cfg:      cfg,
		events:   make(chan event, maxEvents),
		begun:    make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		ahead:    make(map[string]ahead),
		issued:   make(map[string]orders),
		behind:   make(map[string]bool),
		returned: make(map[string]bool),
		heard:    make(map[string]time.Time),
		chunks:   make(map[string]arrived),
		uploads:  make(map[string]upload),
	}
}
