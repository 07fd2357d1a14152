package spool_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// model is what a spool must be: a slice of records and three sets of numbers.
type model struct {
	t       *rapid.T
	dir     string
	s       *spool.Spool
	stop    func()
	records []modelRecord // number n is at n-1
	acked   protocol.Ranges
	handed  protocol.Ranges // since the last rewind
	offered protocol.Ranges // since the last opening
	keep    time.Duration   // 0, or longer than the test lasts
	commits int             // to name them
}

type modelRecord struct {
	lane    spool.Lane
	payload []byte
}

func (m *model) open() {
	s, err := spool.Open(m.dir, spool.Options{Station: "torino", Keep: m.keep})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	m.s, m.handed, m.offered = s, nil, nil
	m.stop = func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			m.t.Errorf("Close: %v", err)
		}
	}
}

func (m *model) held() protocol.Ranges {
	var all protocol.Ranges
	all.AddRange(1, uint64(len(m.records)))
	return all.Subtract(m.acked)
}

func (m *model) Queue(t *rapid.T) {
	lane := rapid.SampledFrom(spool.Lanes()).Draw(t, "lane")
	payload := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "payload")
	seq, err := m.s.Queue(context.Background(), lane, protocol.Kind(lane), slices.Clone(payload))
	if err != nil {
		t.Fatal(err)
	}
	m.records = append(m.records, modelRecord{lane, payload})
	if seq != uint64(len(m.records)) {
		t.Fatalf("number %d, want %d", seq, len(m.records))
	}
}

func (m *model) commit(t *rapid.T) {
	m.commits++
	if err := m.s.Remember(context.Background(), "commit", []byte{byte(m.commits)}); err != nil {
		t.Fatal(err)
	}
	if got := m.s.Stats(); m.keep > 0 && got.Records+got.Kept != int64(len(m.records)) {
		t.Fatalf("%d held, %d kept; want %d together", got.Records, got.Kept, len(m.records))
	}
}

func (m *model) Commit(t *rapid.T) { m.commit(t) }

// Next takes some items, or all there are, which must come in order.
func (m *model) Next(t *rapid.T) {
	m.commit(t)
	left := m.held().Subtract(m.handed)
	n := min(rapid.IntRange(0, 40).Draw(t, "items"), int(left.Count()))
	var before *spool.Item
	for range n {
		item, err := m.next()
		if err != nil {
			t.Fatalf("%v; left are %v", err, left)
		}
		if !left.Contains(item.Seq) {
			t.Fatalf("number %d handed out; left are %v", item.Seq, left)
		}
		want := m.records[item.Seq-1]
		if !slices.Equal(item.Payload, want.payload) || item.Kind != protocol.Kind(want.lane) || item.Spool != m.s.Identity() {
			t.Fatalf("number %d is %q %x, want %q %x", item.Seq, item.Kind, item.Payload, want.lane, want.payload)
		}
		if before != nil && m.rank(item) < m.rank(*before) {
			t.Fatalf("number %d (%s, backlog %v) came after %d (%s, backlog %v)", item.Seq, item.Kind, item.Backlog, before.Seq, before.Kind, before.Backlog)
		}
		before = &item
		left = left.Subtract(protocol.Ranges{{From: item.Seq, To: item.Seq}})
		m.handed.Add(item.Seq)
		m.offered.Add(item.Seq)
	}
}

func (m *model) next() (spool.Item, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return m.s.Next(ctx)
}

// rank orders items as they must come while nothing else happens.
func (m *model) rank(item spool.Item) uint64 {
	rank := uint64(slices.Index(spool.Lanes(), m.records[item.Seq-1].lane))
	if item.Backlog {
		rank += 100
	}
	return rank<<32 + item.Seq
}

func (m *model) Ack(t *rapid.T) {
	from := rapid.Uint64Range(1, uint64(len(m.records)+1)).Draw(t, "from")
	to := rapid.Uint64Range(from, from+30).Draw(t, "to")
	if to > uint64(len(m.records)) {
		return
	}
	var r protocol.Ranges
	r.AddRange(from, to)
	m.s.Ack(m.s.Identity(), r)
	m.acked = m.acked.Union(r.Intersect(m.offered))
	m.handed = m.handed.Subtract(m.acked)
}

func (m *model) Rewind(*rapid.T) {
	m.s.Rewind()
	m.handed = nil
}

func (m *model) Retry(t *rapid.T) {
	var r protocol.Ranges
	for range rapid.IntRange(1, 5).Draw(t, "count") {
		r.Add(rapid.Uint64Range(1, uint64(len(m.records)+3)).Draw(t, "seq"))
	}
	m.s.Retry(m.s.Identity(), r)
	m.handed = m.handed.Subtract(r)
}

// Resend brings back what was acknowledged, if it was kept.
func (m *model) Resend(t *rapid.T) {
	from := rapid.Uint64Range(1, uint64(len(m.records)+1)).Draw(t, "from")
	m.commit(t)
	asked := protocol.Ranges{{From: from, To: from + 20}}
	again, gone, err := m.s.Resend(context.Background(), m.s.Identity(), asked)
	if err != nil {
		t.Fatal(err)
	}
	all := protocol.NewRanges(protocol.Range{From: 1, To: uint64(len(m.records))})
	want := asked.Intersect(all)
	if m.keep > 0 {
		m.offered = m.offered.Subtract(asked.Intersect(m.acked)) // an old Ack must not settle them before they went out again
		m.acked = m.acked.Subtract(asked)
	}
	want = want.Subtract(m.acked)
	if again != want.Count() || again+gone != asked.Intersect(all).Count() {
		t.Fatalf("%d again, %d gone; want %v again", again, gone, want)
	}
	m.handed = m.handed.Subtract(asked)
}

func (m *model) Link(t *rapid.T) { m.s.SetLinkUp(rapid.Bool().Draw(t, "up")) }

func (m *model) Reopen(*rapid.T) {
	identity := m.s.Identity()
	m.stop()
	m.open()
	if m.s.Identity() != identity {
		m.t.Fatal("another identity after opening again")
	}
}

func (m *model) Check(t *rapid.T) {
	if got, want := m.s.Unacked().String(), m.held().String(); got != want {
		t.Fatalf("unacknowledged %s, want %s", got, want)
	}
	if got := m.s.Stats().LastSeq; got != uint64(len(m.records)) {
		t.Fatalf("last number %d, want %d", got, len(m.records))
	}
}

func TestSpool_AgainstModel(t *testing.T) {
	root, round := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		dir := filepath.Join(root, strconv.Itoa(round))
		defer os.RemoveAll(dir)
		m := &model{t: t, dir: dir, keep: time.Duration(rapid.IntRange(0, 1).Draw(t, "keep")) * time.Hour}
		m.open()
		defer func() { m.stop() }()
		t.Repeat(map[string]func(*rapid.T){
			"queue": m.Queue, "queue more": m.Queue, "and more": m.Queue, "commit": m.Commit, "next": m.Next, "ack": m.Ack,
			"rewind": m.Rewind, "retry": m.Retry, "link": m.Link, "resend": m.Resend, "reopen": m.Reopen, "": m.Check,
		})
		m.s.Rewind()
		m.handed = nil
		m.commit(t)
		for left := m.held(); !left.Empty(); {
			item, err := m.next()
			if err != nil || !left.Contains(item.Seq) {
				t.Fatalf("%d, %v; left are %v", item.Seq, err, left)
			}
			left = left.Subtract(protocol.Ranges{{From: item.Seq, To: item.Seq}})
		}
	})
}
