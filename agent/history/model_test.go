package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/history"
	"github.com/fulgidus/heimdall/agent/radio"
)

// model is a ring beside everything that was ever put into it. Its steps are read from bytes.
type model struct {
	*testing.T
	ring   *history.Ring
	limit  int
	lasts  time.Duration
	script []byte

	blocks  []*radio.Block // all of them, by number
	forgot  int            // number of the first block since the ring was last emptied
	largest int            // bytes of a block
	segment uint32
	next    uint64
	late    time.Duration // by which the clock was set
}

// byte is the next of the script; 0 after its end.
func (m *model) byte() int {
	if len(m.script) == 0 {
		return 0
	}
	b := m.script[0]
	m.script = m.script[1:]
	return int(b)
}

func (m *model) run() {
	for step := 0; len(m.script) > 0; step++ {
		switch op := m.byte(); {
		case op < 180:
			m.append(1+m.byte()*(1+op%16), op)
		case op < 250:
			m.hold()
		case op < 253:
			m.late += time.Hour
			m.append(100, 0)
			m.forgot = len(m.blocks) - 1
		default:
			m.ring.Clear()
			m.forgot = len(m.blocks)
		}
		if step%16 == 0 || len(m.script) == 0 {
			m.check()
		}
	}
}

func (m *model) append(n, op int) {
	n = min(n, m.limit/32) // of four bytes: a larger one may be cut
	b := block(m.segment, m.next, n)
	switch op % 23 {
	case 1:
		b = block(m.segment, m.next+40, n)
		b.LostBefore, b.LostExact = 40, true
	case 2:
		m.segment++
		b = block(m.segment, m.next+700, n)
		b.LostBefore, b.Tuning.CenterHz = 700, 60e3+float64(m.segment)
	}
	b.Time = b.Time.Add(m.late)
	m.next = b.Index + uint64(n)
	m.largest = max(m.largest, len(b.Raw))
	m.ring.Append(b)
	m.blocks = append(m.blocks, b)
}

// hold asks for an emission that began up to some seconds ago.
func (m *model) hold() {
	if len(m.blocks) == 0 {
		return
	}
	newest := m.blocks[len(m.blocks)-1].End()
	ago := time.Duration(m.byte()) * 40 * time.Millisecond
	m.ring.Hold(newest.Add(-ago), min(ago, time.Duration(m.byte())*9*time.Millisecond), float64(m.byte()%40))
}

// readable reads a whole block back, and tells whether it is there. It must be as it was, or refused.
func (m *model) readable(number int) bool {
	want := m.blocks[number]
	rd, err := m.ring.Seek(m.Context(), want.Time)
	if exceeded, ok := errors.AsType[*history.ExceededError](err); ok {
		if !exceeded.From.After(want.Time) {
			m.Fatalf("block %d at %v is refused, though all since %v is said to be there", number, want.Time, exceeded.From)
		}
		return false
	}
	if err != nil {
		m.Fatalf("block %d: %v", number, err)
	}
	var got radio.Block
	if err := rd.Next(m.Context(), &got, len(want.Raw)); err != nil {
		m.Fatalf("block %d: found, then %v", number, err)
	}
	same := got.Index == want.Index && got.Segment == want.Segment && got.Time.Equal(want.Time) && got.LostBefore == want.LostBefore &&
		got.LostExact == want.LostExact && got.Tuning == want.Tuning && bytes.Equal(got.Raw, want.Raw)
	if !same {
		m.Fatalf("block %d: got sample %d of segment %d at %v, %d bytes; want sample %d of segment %d at %v, %d bytes", number,
			got.Index, got.Segment, got.Time, len(got.Raw), want.Index, want.Segment, want.Time, len(want.Raw))
	}
	return true
}

// check compares all that the ring promises with the model.
func (m *model) check() {
	there := make([]bool, len(m.blocks))
	total := 0
	for number := m.forgot; number < len(m.blocks); number++ {
		if there[number] = m.readable(number); there[number] {
			total += len(m.blocks[number].Raw)
		}
	}
	if total > m.limit {
		m.Fatalf("%d bytes can be read out of %d", total, m.limit)
	}
	span := m.ring.Span()
	for number := len(m.blocks) - span.Blocks; number < len(m.blocks); number++ {
		if !there[number] {
			m.Fatalf("block %d is within the span, and cannot be read", number)
		}
	}
	written := 0
	for _, b := range m.blocks[m.forgot:] {
		written += len(b.Raw)
	}
	if least := min(written, m.limit*3/4-m.limit/64-2*m.largest); span.Bytes < least {
		m.Fatalf("the ring has %d bytes, want %d at least", span.Bytes, least)
	}
	for _, h := range m.ring.Held() {
		if span.To.Sub(h.To) > m.lasts {
			m.Fatalf("%v to %v is held %v after its end", h.From, h.To, span.To.Sub(h.To))
		}
		if err := m.ring.Reach(h.From, h.To.Sub(h.From)); err != nil {
			m.Fatalf("held, but not there: %v", err)
		}
		for number := m.forgot; number < len(m.blocks); number++ {
			if b := m.blocks[number]; !there[number] && b.End().Sub(h.From) > time.Microsecond && h.To.Sub(b.Time) > time.Microsecond {
				m.Fatalf("block %d at %v is gone, though %v to %v is held", number, b.Time, h.From, h.To)
			}
		}
	}
	m.checkReach(there)
}

// checkReach compares the answer for some stretches.
func (m *model) checkReach(there []bool) {
	for number := m.forgot; number < len(there); number += 7 {
		end := min(number+1+number%9, len(there))
		whole := true
		for _, b := range there[number:end] {
			whole = whole && b
		}
		from, last := m.blocks[number], m.blocks[end-1]
		samples := last.Index + uint64(last.Samples()) - from.Index
		err := m.ring.Reach(from.Time, radio.SamplesDuration(float64(samples), rate))
		if (err == nil) != whole {
			m.Fatalf("blocks %d to %d: whole is %v, the ring says %v", number, end-1, whole, err)
		}
	}
}

func newModel(t *testing.T, script []byte) *model {
	m := &model{T: t, script: script}
	m.limit = 1 << (14 + m.byte()%6)
	m.lasts = time.Duration(1+m.byte()) * time.Second / 4
	m.ring = history.NewHolding(m.limit, m.lasts)
	return m
}

// Whatever is appended, held, cleared and set: what the ring says is there reads back byte for byte, the rest is refused.
func TestModel(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			script := make([]byte, 1200)
			for i := range script {
				script[i] = byte(rng.Uint32())
				if script[i] >= 250 && seed%3 != 0 {
					script[i] = 10 // most runs without a new start
				}
			}
			newModel(t, script).run()
		})
	}
}

func FuzzModel(f *testing.F) {
	f.Add([]byte{3, 40, 10, 255, 10, 255, 200, 5, 9, 30, 10, 255, 10, 255, 10, 255, 200, 1, 1, 1, 251, 0, 10, 9, 254, 10, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 2000 {
			return
		}
		newModel(t, script).run()
	})
}
