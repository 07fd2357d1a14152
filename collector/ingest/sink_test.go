package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// memory is a database in memory with the semantics of the real one: one transaction a commit, each number of a spool
// once, gaps and rejections settled, everything idempotent.
type memory struct {
	mu       sync.Mutex // guards all below
	rows     map[protocol.Stream]map[uint64]*protocol.Record
	settled  map[protocol.Stream]protocol.Ranges
	rejected []protocol.Rejection
	commits  []int // records of each
	status   map[string]bool
	info     map[string]*protocol.Info
	state    map[string]*protocol.State
	held     map[string]protocol.Suspension

	down    error                                                   // every call fails with it
	refuses func(r *protocol.Record, rej *protocol.Rejection) error // verdict on one thing; may be nil
	delay   time.Duration                                           // of each commit
}

func newMemory() *memory {
	return &memory{
		rows:    map[protocol.Stream]map[uint64]*protocol.Record{},
		settled: map[protocol.Stream]protocol.Ranges{},
		status:  map[string]bool{}, info: map[string]*protocol.Info{}, state: map[string]*protocol.State{},
		held: map[string]protocol.Suspension{},
	}
}

// refusedError is the error of a record that a database will never take.
type refusedError struct{ error }

func (refusedError) OneRecord() bool { return true }

var errDown = errors.New("connection refused")

func (m *memory) set(change func(m *memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *memory) Commit(ctx context.Context, _ time.Time, records []*protocol.Record, rejected []protocol.Rejection) ([]bool, map[protocol.Stream]*protocol.Ack, error) {
	m.mu.Lock()
	delay := m.delay
	m.mu.Unlock()
	time.Sleep(delay) // outside the lock: fake time stands still for who waits for one
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, nil, m.down
	}
	if m.refuses != nil {
		for _, r := range records {
			if err := m.refuses(r, nil); err != nil {
				return nil, nil, err
			}
		}
		for _, r := range rejected {
			if err := m.refuses(nil, &r); err != nil {
				return nil, nil, err
			}
		}
	}
	touched := map[protocol.Stream]bool{}
	fresh := make([]bool, len(records))
	for i, r := range records {
		s := r.Stream()
		touched[s] = true
		if m.rows[s] == nil {
			m.rows[s] = map[uint64]*protocol.Record{}
		}
		if _, ok := m.rows[s][r.GetSeq()]; !ok {
			m.rows[s][r.GetSeq()] = r
			fresh[i] = true
		}
		m.settle(s, r.GetSeq())
	}
	for _, r := range rejected {
		m.rejected = append(m.rejected, r)
		if len(r.Spool) == 8 {
			s := protocol.Stream{Station: r.Station, Spool: [8]byte(r.Spool)}
			touched[s] = true
			m.settle(s, r.Seq)
		}
	}
	m.commits = append(m.commits, len(records))
	acks := map[protocol.Stream]*protocol.Ack{}
	for s := range touched {
		acks[s] = m.ack(s)
	}
	return fresh, acks, ctx.Err()
}

func (m *memory) settle(s protocol.Stream, seq uint64) {
	r := m.settled[s]
	r.Add(seq)
	m.settled[s] = r
}

func (m *memory) ack(s protocol.Stream) *protocol.Ack {
	return &protocol.Ack{Spool: s.Spool[:], Settled: m.settled[s].Clone().Wire()}
}

func (m *memory) Acks(context.Context) (map[protocol.Stream]*protocol.Ack, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	acks := map[protocol.Stream]*protocol.Ack{}
	for s := range m.settled {
		acks[s] = m.ack(s)
	}
	return acks, nil
}

func (m *memory) Suspend(_ context.Context, s protocol.Suspension) error {
	return m.save(func() { m.held[s.Station] = s })
}

func (m *memory) suspension(station string) protocol.Suspension {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[station]
}

func (m *memory) Suspensions(context.Context) (list []protocol.Suspension, err error) {
	err = m.save(func() { list = slices.Collect(maps.Values(m.held)) })
	return list, err
}

func (m *memory) SaveStatus(_ context.Context, station string, online bool, _ time.Time) error {
	return m.save(func() { m.status[station] = online })
}

func (m *memory) SaveInfo(_ context.Context, station string, info *protocol.Info, _ time.Time) error {
	if info != nil && info.Name == "refuse me" {
		return refusedError{errors.New("value too long")}
	}
	return m.save(func() { m.info[station] = info })
}

func (m *memory) SaveState(_ context.Context, station string, state *protocol.State, _ time.Time) error {
	return m.save(func() { m.state[station] = state })
}

func (m *memory) save(set func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return m.down
	}
	set()
	return nil
}

// stored is how many numbers of a station are in, each once by construction.
func (m *memory) stored(station string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for s, rows := range m.rows {
		if s.Station == station {
			n += len(rows)
		}
	}
	return n
}

func (m *memory) reasons() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s []string
	for _, r := range m.rejected {
		s = append(s, r.Reason)
	}
	return s
}

func (m *memory) largest() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Max(append([]int{0}, m.commits...))
}

// broker notes what is published.
type broker struct {
	mu   sync.Mutex // guards all below
	acks map[string]protocol.Ranges
	sent map[string][]string
	down bool
}

func newBroker() *broker {
	return &broker{acks: map[string]protocol.Ranges{}, sent: map[string][]string{}}
}

func (b *broker) Publish(_ context.Context, topic string, retained bool, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errors.New("no session")
	}
	if !retained {
		return fmt.Errorf("%s should be retained", topic)
	}
	if payload == nil {
		delete(b.acks, topic)
		return nil
	}
	ack, err := protocol.DecodeAck(payload)
	if err != nil {
		return err
	}
	b.acks[topic] = protocol.RangesOf(ack.GetSettled())
	return nil
}

func (b *broker) PublishOnce(_ context.Context, topic string, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errors.New("no session")
	}
	b.sent[topic] = append(b.sent[topic], string(payload))
	return nil
}

func (b *broker) settled(station string, spool [8]byte) protocol.Ranges {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acks[protocol.Topics{}.Ack(station, spool)]
}

// seconds, fast and slow, of a spool that tests use.
var spoolA = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

// measurement is a valid record of now.
func measurement(station string, seq uint64) *protocol.Record {
	return &protocol.Record{
		Station: new(station), Spool: spoolA[:], Seq: new(seq), Time: new(time.Now().Add(-time.Second).UnixNano()),
		Receiver: new("r1"), TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: new(0.01),
		Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{
			DurationS: new(1.0), CenterHz: new(145.5e6), SampleRateHz: new(240e3), PowerDbfs: proto.Float32(-40),
		}},
	}
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := protocol.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
