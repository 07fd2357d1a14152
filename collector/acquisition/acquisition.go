// Package acquisition asks several stations for the same stretch of time, and follows what becomes of it.
//
// One request becomes one command a station, all with the same start, so that the stations hear the same signal. Replies
// of the stations, and the recordings that the archive finishes, move each station through its states; the acquisition is
// done when at least one station is and nothing more will come from the others. Everything that matters is in the store:
// after a restart, or on another collector that shares the work, the next scan takes up what is not settled.
//
// With IQ, a station is done only when its recording is stored. A station that neither replies nor sends in time is
// expired; what it delivers after that is stored all the same, and its recording is named in the acquisition.
package acquisition

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// Store keeps acquisitions. UpdateAcquisition reads, changes and writes one in a single transaction; it writes nothing
// when change returns an error, and returns that error. An id that is not there gives an error matching fs.ErrNotExist.
type Store interface {
	CreateAcquisition(ctx context.Context, a *protocol.Acquisition) error
	UpdateAcquisition(ctx context.Context, id string, change func(*protocol.Acquisition) error) error
	UnsettledAcquisitions(ctx context.Context) ([]*protocol.Acquisition, error)
	// Records lists stored records of a kind, newest first, and gives the cursor of the next page.
	Records(ctx context.Context, kind protocol.Kind, f protocol.Filter) ([]protocol.StoredRecord, string, error)
}

// Commander gets a command to a station, repeating it until the station replies or it expires.
type Commander interface {
	Issue(ctx context.Context, station string, c *protocol.Command) error
	Forget(id string)
}

// Stations knows the stations.
type Stations interface {
	Stations(ctx context.Context) ([]protocol.Station, error)
}

// The defaults of Config, and what no operator needs to change.
const (
	defaultMaxDuration = time.Hour
	defaultIQBytes     = 256 << 20
	defaultLead        = 500 * time.Millisecond
	clockTolerance     = 5 * time.Minute // how far a station's clock may be behind
	maxAhead           = 7 * 24 * time.Hour
	maxLabelBytes      = protocol.MaxTextBytes

	afterEnd  = time.Minute      // a command expires so long after the end of what it asks for
	silence   = 10 * time.Minute // a station that has begun is expired when nothing comes from it for so long
	scanEvery = time.Second      // while something is not settled
	scanIdle  = 10 * time.Second // and else: another collector may have left something
	retryMax  = 30 * time.Second
	// Whoever creates an acquisition issues its commands at once. When they are not answered by then, the others do, too.
	adoptAfter = 3 * time.Second

	// Replies and recordings that wait for the store. When it is full their sender waits: it needs the same store.
	maxEvents = 256
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
	// Lead is how far ahead an acquisition without a start begins, so that its command has reached all stations; default 500 ms.
	Lead time.Duration

	Now func() time.Time // nil means time.Now
	Log *slog.Logger
}

// Conductor runs acquisitions.
type Conductor struct {
	cfg Config
	// events is what happened and is not yet in the store. Capacity maxEvents.
	events chan event

	mu      sync.Mutex           // guards the three below
	heard   map[string]time.Time // of each station with something under way, when it last sent a chunk or a reply
	chunks  map[string]uint32    // of each capture, how many chunks came
	uploads map[string]upload    // of each command, what its last reply said is under way
}

// upload is what a station is sending, or how far it is.
type upload struct {
	capture string
	chunks  uint32  // 0: not known yet
	part    float64 // 0..1, as the station says
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
		cfg:     cfg,
		events:  make(chan event, maxEvents),
		heard:   make(map[string]time.Time),
		chunks:  make(map[string]uint32),
		uploads: make(map[string]upload),
	}
}

// Create checks a request, stores it and sends the stations their commands. Faults of the request are
// protocol.FieldErrors, all at once.
func (c *Conductor) Create(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	all, err := c.cfg.Stations.Stations(ctx)
	if err != nil {
		return nil, err
	}
	now := c.cfg.Now().UTC().Truncate(time.Microsecond) // what databases keep
	asked, start, err := c.check(req, all, now)
	if err != nil {
		return nil, err
	}
	a := &protocol.Acquisition{
		ID: uuid.Must(uuid.NewV7()).String(), Requested: protocol.FormatTime(now),
		StartTime: protocol.FormatTime(start), Request: req,
	}
	for _, s := range asked {
		a.Stations = append(a.Stations, begin(s))
	}
	summarize(a, c.uploaded)
	if err := c.cfg.Store.CreateAcquisition(ctx, a); err != nil {
		return nil, err
	}
	if stations, failed := c.issue(ctx, a); len(stations)+len(failed) > 0 {
		c.tell(ctx, event{kind: eventIssued, acquisition: a.ID, stations: stations, failed: failed})
	}
	c.cfg.Changed(a)
	return a, nil
}

// begin is the first state of a station: some can be told at once that nothing will come.
func begin(s protocol.Station) protocol.AcquisitionStation {
	out := protocol.AcquisitionStation{Station: s.ID, State: protocol.StationQueued, CommandID: uuid.Must(uuid.NewV7()).String()}
	switch {
	case s.LastSeen == "":
		out.State, out.ReasonCode = protocol.StationRefused, "no_agent"
		out.Message = "no agent of this station has ever connected"
	case s.Status != protocol.Online:
		out.State, out.ReasonCode = protocol.StationFailed, "offline"
		out.Message = "the station is not connected"
	case !takesOrders(s):
		out.State, out.ReasonCode = protocol.StationRefused, "not_allowed"
		out.Message = "the station takes no orders; its owner allows them with control.allow: [capture]"
	}
	return out
}

// issue gives the commander what stations still have to be told, and tells which will be and which cannot. The commander
// repeats by itself, so a process does this once.
func (c *Conductor) issue(ctx context.Context, a *protocol.Acquisition) (stations []string, failed []failure) {
	for _, s := range a.Stations {
		if s.State != protocol.StationQueued && s.State != protocol.StationSent {
			continue
		}
		cmd, err := commandFor(a, s)
		if err == nil && c.cfg.Now().UnixNano() >= cmd.GetExpires() {
			continue // the next scan finds it expired
		}
		if err == nil {
			err = c.cfg.Commander.Issue(ctx, s.Station, cmd)
		}
		if err != nil {
			failed = append(failed, failure{station: s.Station, code: "not_sent", message: err.Error()})
			continue
		}
		stations = append(stations, s.Station)
	}
	return stations, failed
}

// commandFor is the command of one station. It depends on nothing but the stored acquisition, so that it is the same
// when it is issued again.
func commandFor(a *protocol.Acquisition, s protocol.AcquisitionStation) (*protocol.Command, error) {
	requested, err := time.Parse(time.RFC3339Nano, a.Requested)
	if err != nil {
		return nil, err
	}
	start, err := time.Parse(time.RFC3339Nano, a.StartTime)
	if err != nil {
		return nil, err
	}
	capture := &protocol.Capture{
		Acquisition: &a.ID, Start: new(start.UnixNano()), DurationS: &a.Request.DurationS, CenterHz: &a.Request.FrequencyHz,
		BandwidthHz: a.Request.BandwidthHz, Iq: &a.Request.IQ,
	}
	if a.Request.Priority != 0 {
		capture.Priority = new(int32(a.Request.Priority))
	}
	return &protocol.Command{
		Id: &s.CommandID, Issued: new(requested.UnixNano()), Expires: new(expiry(a, requested, start).UnixNano()),
		Order: &protocol.Command_Capture{Capture: capture},
	}, nil
}

// expiry is until when a station may begin to answer.
func expiry(a *protocol.Acquisition, requested, start time.Time) time.Time {
	if start.Before(requested) {
		start = requested
	}
	return start.Add(time.Duration(a.Request.DurationS*float64(time.Second)) + afterEnd)
}
