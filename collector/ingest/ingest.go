package ingest

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/protocol"
	"github.com/fulgidus/heimdall/protocol/exposition"
)

// Message is one publish as it arrived.
type Message struct {
	Topic    string
	Payload  []byte // owned by the receiver
	Retained bool   // it was published before this session subscribed
	Ack      func() // tells the broker that it need not keep the message; may be nil
}

// Sink commits records and rejections in one transaction. For each record it says whether it was new, and for each
// spool touched what is settled in it now. A repeat is no error. Records and rejections stay unchanged.
//
// An error with a method OneRecord that answers true means that the database will never take one of the records or
// rejections, however often it is asked. Any other error is taken for passing trouble: the commit is repeated for ever.
type Sink interface {
	Commit(ctx context.Context, received time.Time, records []*protocol.Record, rejected []protocol.Rejection) (fresh []bool, acks map[protocol.Stream]*protocol.Ack, err error)
}

// Known tells what is settled in every spool whose Ack is to be retained on the broker. A nil Ack clears it there.
type Known interface {
	Acks(ctx context.Context) (map[protocol.Stream]*protocol.Ack, error)
}

// Stations keeps what stations say of themselves; nil when they took it back. What is older than what is kept must
// change nothing.
type Stations interface {
	SaveStatus(ctx context.Context, station string, online bool, at time.Time) error
	SaveInfo(ctx context.Context, station string, info *protocol.Info, at time.Time) error
	SaveState(ctx context.Context, station string, state *protocol.State, at time.Time) error
}

// Publisher sends a message to the broker and returns when the broker has it.
type Publisher interface {
	Publish(ctx context.Context, topic string, retained bool, payload []byte) error
}

// Observer is told which records were new, after their commit, in the order of the commits. It may wait for the same
// database as the commits, and must not wait for anything else: ingest waits for it.
type Observer func(ctx context.Context, fresh []protocol.StoredRecord)

// Limits bound what stations can ask of the collector. Zero fields take the defaults.
type Limits struct {
	StationRecords float64 // records/s of one station, over 10 s; default 20,000
	StationBytes   float64 // bytes/s likewise; default 8 MiB
	MessageBytes   int     // of one payload; default and at most protocol.MaxMessageBytes
	StationMemory  int     // bytes of one station's messages that may wait; default 8 MiB
	Memory         int     // bytes of all stations' messages that may wait; default 64 MiB
	BatchRecords   int     // of one commit; default 2000
	BatchBytes     int     // of one commit; default 1 MiB
	// A station is suspended for a while when more of its records are rejected: in a minute, default 100, or in an hour, default 1000.
	RejectedPerMinute, RejectedPerHour float64
}

// The defaults, and what no operator needs to change.
const (
	defaultStationRecords = 20_000
	defaultStationBytes   = 8 << 20
	defaultStationMemory  = 8 << 20
	defaultMemory         = 64 << 20
	defaultBatchRecords   = 2000
	defaultBatchBytes     = 1 << 20
	defaultRejectedMinute = 100
	defaultRejectedHour   = 1000
	burst                 = 10 * time.Second // a station may use the rate of so long at once
	floodFactor           = 10               // over so many times its rate, a station is worth disconnecting
	lingerMax             = 100 * time.Millisecond
	commitTimeout         = time.Minute
	backoffFirst          = 100 * time.Millisecond
	backoffMax            = 30 * time.Second
	complainEvery         = time.Minute
)

func (l Limits) withDefaults() Limits {
	l.StationRecords = or(l.StationRecords, defaultStationRecords)
	l.StationBytes = or(l.StationBytes, defaultStationBytes)
	l.MessageBytes = min(or(l.MessageBytes, protocol.MaxMessageBytes), protocol.MaxMessageBytes)
	l.StationMemory = or(l.StationMemory, defaultStationMemory)
	l.Memory = or(l.Memory, defaultMemory)
	l.BatchRecords = or(l.BatchRecords, defaultBatchRecords)
	l.BatchBytes = or(l.BatchBytes, defaultBatchBytes)
	l.RejectedPerMinute = or(l.RejectedPerMinute, defaultRejectedMinute)
	l.RejectedPerHour = or(l.RejectedPerHour, defaultRejectedHour)
	return l
}

func or[T int | float64](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// Config is what ingest works with.
type Config struct {
	Topics    protocol.Topics
	Collector string // id of this collector, named in each Ack
	Sink      Sink
	Known     Known
	Stations  Stations
	// Suspensions is shared with other collectors.
	Suspensions Suspensions
	Publisher   Publisher
	Observers   []Observer
	// Flood is told of a station that sends ten times what its limits allow, for who can disconnect it. It must not block.
	// May be nil.
	Flood  func(station string)
	Limits Limits
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger
}

// Ingest is the way from the broker to the database.
type Ingest struct {
	cfg    Config
	inbox  *inbox
	acks   *ackBoard
	saves  *saveBoard
	counts counts
	// complaints are the log of rejections.
	complaints *complaints
	warden     *warden

	// batches hands a batch to the committer. Capacity 0: while it is busy, the next batch goes on growing.
	batches chan *batch
	// committed says that a commit ended, so that the wait before the next one is computed anew. Capacity 1: one notice
	// is as good as many.
	committed chan struct{}
	pace      pace
	delays    *exposition.Histogram     // of new records that are not late, from made to committed, in seconds
	trouble   atomic.Pointer[error]     // why the database takes nothing at the moment; nil when it does
	trying    atomic.Pointer[time.Time] // when the present attempt at a commit began; nil between them
}

// New makes an Ingest; Run does the work.
func New(cfg Config) *Ingest {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Ingest{
		cfg:        cfg,
		inbox:      newInbox(cfg.Limits),
		acks:       newAckBoard(),
		saves:      newSaveBoard(),
		complaints: newComplaints(cfg.Log),
		warden:     newWarden(cfg.Limits, cfg.Log),
		batches:    make(chan *batch),
		committed:  make(chan struct{}, 1),
		delays:     exposition.NewHistogram(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
	}
}

// Run works until ctx ends. What was not committed by then has not been acknowledged.
func (g *Ingest) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, work := range []func(context.Context){g.assemble, g.commitBatches, g.publishAcks, g.saveStations, g.complaints.run, g.watchSuspensions} {
		wg.Go(func() { work(ctx) })
	}
	wg.Wait()
	return nil
}

// Receive takes a message. It never blocks, so it may run on the reader of a connection.
func (g *Ingest) Receive(m Message) {
	g.counts.messages.Add(1)
	topic, err := g.cfg.Topics.Parse(m.Topic)
	if err != nil || topic.Station == "" {
		g.counts.strange.Add(1)
		m.acknowledge()
		return
	}
	it := item{Message: m, topic: topic, at: g.cfg.Now()}
	var flood bool
	if g.unread(it, it.at) {
		flood = g.inbox.pass(it)
		m.acknowledge()
	} else {
		var dropped int
		dropped, flood = g.inbox.push(it)
		g.counts.dropped.Add(uint64(dropped))
	}
	if flood && g.cfg.Flood != nil {
		g.cfg.Flood(topic.Station)
	}
}

// unread tells whether a message is one of records of a suspended station, and counts it.
func (g *Ingest) unread(m item, now time.Time) bool {
	records := m.topic.Class == protocol.TopicRecord || m.topic.Class == protocol.TopicBatch
	if !records || !g.warden.holds(m.topic.Station, now) {
		return false
	}
	g.counts.unread.Add(1)
	return true
}

// rejected tells of a rejection. The topic may be unknown.
func (g *Ingest) rejected(station, topic string, err error) {
	g.complaints.note(station, topic, err)
	g.warden.note(station, err, g.cfg.Now())
}

func (m Message) acknowledge() {
	if m.Ack != nil {
		m.Ack()
	}
}

// Republish has the Acks of all known spools published again. Call it on each connection to a broker, which may have
// forgotten what was retained.
func (g *Ingest) Republish() {
	g.acks.wantAll()
	g.acks.notify()
}

// Ready is nil while records can be committed, and else says what the database answers.
func (g *Ingest) Ready() error {
	if err := g.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Trying is how long the present attempt at a commit has lasted; 0 between attempts. Each is given up after a minute, so that
// more means that the database's client is stuck.
func (g *Ingest) Trying() time.Duration {
	if began := g.trying.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

type counts struct {
	messages, records, fresh, repeated, rejected, excess, strange, dropped, unread, commits, retries atomic.Uint64
}

// Stats counts what happened since the start.
type Stats struct {
	Messages uint64 // received
	Records  uint64 // committed, new or not
	Fresh    uint64 // of those, new
	Repeated uint64 // of those, already stored
	Rejected uint64 // committed as rejections
	Excess   uint64 // rejections beyond what is kept of one station a day: only counted
	Strange  uint64 // messages on topics that no station has
	Dropped  uint64 // messages that found their station's queue full; their senders send them again
	Unread   uint64 // messages of suspended stations; their senders send them again
	Commits  uint64
	Retries  uint64 // commits that failed and were repeated
	Waiting  int    // bytes of messages that wait

	Suspensions uint64 // how often this collector suspended a station
	Suspended   int    // stations that are, by whomever
}

// Delays is how long records took from made, by their station's clock, to committed, by this one's; not those of a backlog.
func (g *Ingest) Delays() exposition.Sample { return g.delays.Sample() }

// Stats tells what happened so far.
func (g *Ingest) Stats() Stats {
	c := &g.counts
	suspensions, suspended := g.warden.counted(g.cfg.Now())
	return Stats{
		Messages: c.messages.Load(), Records: c.records.Load(), Fresh: c.fresh.Load(), Repeated: c.repeated.Load(),
		Rejected: c.rejected.Load(), Excess: c.excess.Load(), Strange: c.strange.Load(), Dropped: c.dropped.Load(),
		Commits: c.commits.Load(), Retries: c.retries.Load(), Waiting: g.inbox.waiting(),
		Unread: c.unread.Load(), Suspensions: suspensions, Suspended: suspended,
	}
}
