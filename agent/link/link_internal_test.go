package link

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

var (
	t0  = time.Unix(1000, 0)
	one = [8]byte{1}
)

// sent puts a message with the given numbers in a window.
func sent(w *window, now time.Time, bytes int, seqs ...uint64) *message {
	m := &message{payload: make([]byte, bytes)}
	for _, n := range seqs {
		m.records = append(m.records, outgoing{key: key{one, n}})
	}
	w.send(m, now)
	return m
}

func arrived(w *window, now time.Time, from, to uint64) int {
	return len(w.settle(one, protocol.Ranges{{From: from, To: to}}, now))
}

func TestWindow_BoundsMessagesAndBytes(t *testing.T) {
	w := window{mostMessages: 3, mostBytes: 1000, timeout: time.Second}
	sent(&w, t0, 10, 1)
	sent(&w, t0, 10, 2, 3)
	if w.full() {
		t.Error("full with two of three messages")
	}
	sent(&w, t0, 10, 4)
	if !w.full() {
		t.Error("not full with three messages")
	}
	if got := arrived(&w, t0, 2, 2); got != 1 || !w.full() {
		t.Error("half a message freed its place")
	}
	if got := arrived(&w, t0, 1, 3); got != 2 || w.full() || w.bytes != 10 {
		t.Errorf("%d settled, %d bytes left", got, w.bytes)
	}
	sent(&w, t0, 990, 5)
	if !w.full() {
		t.Error("not full with all bytes")
	}
	if got := len(w.settle([8]byte{2}, protocol.Ranges{{From: 1, To: 9}}, t0)); got != 0 {
		t.Errorf("%d settled by the acknowledgement of another spool", got)
	}
}

// On a slow link no more is on its way than five seconds carry.
func TestWindow_FollowsTheRate(t *testing.T) {
	w := window{mostMessages: 64, mostBytes: 256 << 10, timeout: time.Second}
	if got := w.limitBytes(); got != smallestWindow {
		t.Errorf("at first %d bytes", got)
	}
	now := t0
	for n := range uint64(100) { // 2,000 bytes a second
		sent(&w, now, 2000, n+1)
		now = now.Add(time.Second)
		arrived(&w, now, 1, n+1)
	}
	if got := w.limitBytes(); got < 9000 || got > 11000 {
		t.Errorf("at 2,000 bytes a second %d bytes, want 10,000", got)
	}
	for n := range uint64(100) { // a fast one
		sent(&w, now, 8000, n+1)
		now = now.Add(time.Millisecond)
		arrived(&w, now, 1, n+1)
	}
	if got := w.limitBytes(); got != 256<<10 {
		t.Errorf("on a fast link %d bytes", got)
	}
	for n := range uint64(100) { // 10 bytes a second
		sent(&w, now, 100, n+1)
		now = now.Add(10 * time.Second)
		arrived(&w, now, 1, n+1)
	}
	if got := w.limitBytes(); got != smallestWindow {
		t.Errorf("on a link that carries nearly nothing %d bytes", got)
	}
}

func TestWindow_TimeoutsDouble(t *testing.T) {
	w := window{mostMessages: 9, mostBytes: 1000, timeout: time.Second}
	m := sent(&w, t0, 1, 1)
	for waits, seconds := range []int{1, 2, 4, 8, 10, 10, 10} {
		m.waits = waits
		at := t0.Add(time.Duration(seconds) * time.Second)
		if len(w.due(at.Add(-1))) != 0 || len(w.due(at)) != 1 {
			t.Errorf("after %d time-outs not due after %d s", waits, seconds)
		}
	}
	m.waits = 100
	if len(w.due(t0.Add(10*time.Second))) != 1 {
		t.Error("after 100 time-outs not due after 10 s")
	}
}

func TestWindow_OvertakenByWhatWasSentLater(t *testing.T) {
	w := window{mostMessages: 9, mostBytes: 1000, timeout: time.Second}
	a, b := sent(&w, t0, 1, 9), sent(&w, t0, 1, 2)
	sent(&w, t0, 1, 3)
	if w.overtaken(a) || w.overtaken(b) {
		t.Error("overtaken by nothing")
	}
	arrived(&w, t0, 2, 2)
	if !w.overtaken(a) {
		t.Error("not overtaken by what was sent later, though its number is lower")
	}
	w.send(a, t0)
	if w.overtaken(a) {
		t.Error("sent again, and overtaken by what was sent before")
	}
}

func TestWindow_SilentBroker(t *testing.T) {
	w := window{mostMessages: 9, mostBytes: 9000, timeout: time.Second}
	if w.silent(t0.Add(time.Hour)) {
		t.Error("silent though it owes nothing")
	}
	m := sent(&w, t0, 250, 1) // a second's worth of the slowest link
	if w.silent(t0.Add(2 * time.Second)) {
		t.Error("silent too early")
	}
	if !w.silent(t0.Add(2*time.Second + 1)) {
		t.Error("not silent")
	}
	w.confirm(m, t0.Add(3*time.Second))
	if w.silent(t0.Add(time.Hour)) {
		t.Error("silent though it confirmed")
	}
	late := sent(&w, t0.Add(time.Hour), 250, 2)
	if w.silent(t0.Add(time.Hour + time.Second)) {
		t.Error("silent at once after a long calm")
	}
	// What leaves the window is owed no more, whether it was confirmed, acknowledged, sent again or forgotten.
	w.confirm(late, t0)
	w.send(late, t0)
	sent(&w, t0, 250, 3)
	sent(&w, t0, 250, 4)
	arrived(&w, t0, 2, 2)
	w.forget(one, 4)
	if w.owes != 1 || w.owed != 250 || w.bytes != 250+250 {
		t.Errorf("%d messages of %d bytes are owed, %d on their way", w.owes, w.owed, w.bytes)
	}
	w.clear()
	if w.owes != 0 || w.owed != 0 || w.bytes != 0 || w.silent(t0.Add(time.Hour)) {
		t.Errorf("%d messages of %d bytes are owed in an empty window of %d", w.owes, w.owed, w.bytes)
	}
}

func TestWindow_ForgetsFromAConflictOn(t *testing.T) {
	w := window{mostMessages: 9, mostBytes: 1000, timeout: time.Second}
	sent(&w, t0, 10, 1, 2, 3)
	sent(&w, t0, 10, 4)
	w.forget(one, 2)
	if len(w.messages) != 1 || len(w.messages[0].records) != 1 || w.bytes != 10 {
		t.Errorf("%d messages, %d bytes", len(w.messages), w.bytes)
	}
}

func TestBackoff_FullJitterUpToTheBound(t *testing.T) {
	b := backoff{most: 8 * time.Second}
	for _, seconds := range []int{1, 2, 4, 8, 8} {
		if wait := b.next(); wait <= 0 || wait > time.Duration(seconds)*time.Second {
			t.Errorf("%v, want up to %d s", wait, seconds)
		}
	}
	b.reset()
	if wait := b.next(); wait > time.Second {
		t.Errorf("after a reset %v", wait)
	}
	small := backoff{most: time.Millisecond}
	if wait := small.next(); wait > time.Millisecond {
		t.Errorf("%v over the bound", wait)
	}
}

func TestOutage_IsSaidNowAndThen(t *testing.T) {
	var o outage
	said := 0
	for i := range 60 {
		if o.worthSaying(t0.Add(time.Duration(i)*time.Minute), io.EOF) {
			said++
		}
	}
	if said != 6 {
		t.Errorf("said %d times in an hour, want 6", said)
	}
}

// What the owner can do is said as soon as it is known, and once.
func TestOutage_SaysEachMend(t *testing.T) {
	var o outage
	revoked, away := &mendable{io.EOF, "enrol"}, fmt.Errorf("connect: %w", &mendable{io.EOF, "start it"})
	for i, c := range []struct {
		err  error
		said bool
	}{{io.EOF, true}, {io.EOF, false}, {revoked, true}, {revoked, false}, {away, true}, {revoked, false}, {away, false}} {
		if said := o.worthSaying(t0.Add(time.Duration(i)*time.Second), c.err); said != c.said {
			t.Errorf("attempt %d, %v: said %v", i+1, c.err, said)
		}
	}
	if !o.worthSaying(t0.Add(sayEvery+time.Minute), revoked) || o.worthSaying(t0.Add(sayEvery+2*time.Minute), revoked) {
		t.Error("after a while it is said again, once")
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

func TestReadAck(t *testing.T) {
	ranges := func(pairs ...uint64) []*protocol.SeqRange {
		var out []*protocol.SeqRange
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, &protocol.SeqRange{From: &pairs[i], To: &pairs[i+1]})
		}
		return out
	}
	got, err := readAck(one, encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(1, 5, 9, 20)}))
	if err != nil || got.settled.String() != "{[1,6),[9,21)}" || got.conflict != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	// What the collector has from the conflict on is not ours.
	got, err = readAck(one, encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(1, 20), Conflict: ranges(12, 13)[0]}))
	if err != nil || got.settled.String() != "{[1,12)}" || got.conflict != 12 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = readAck(one, []byte(`{"spool":"0100000000000000","settled":[{"from":1,"to":2}]}`))
	if err != nil || got.settled.String() != "{[1,3)}" {
		t.Errorf("JSON: %+v, %v", got, err)
	}
	many := make([]uint64, 0, 2*(protocol.MaxAckRanges+1))
	for n := range uint64(protocol.MaxAckRanges + 1) {
		many = append(many, 3*n+1, 3*n+1)
	}
	for name, bad := range map[string][]byte{
		"empty":    nil,
		"garbage":  {0xff, 1, 2},
		"spool":    encode(t, &protocol.Ack{Spool: []byte{2, 0, 0, 0, 0, 0, 0, 0}, Settled: ranges(1, 2)}),
		"no spool": encode(t, &protocol.Ack{Settled: ranges(1, 2)}),
		"zero":     encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(0, 2)}),
		"backward": encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(5, 2)}),
		"too far":  encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(5, protocol.MaxSeq+1)}),
		"many":     encode(t, &protocol.Ack{Spool: one[:], Settled: ranges(many...)}),
		"conflict": encode(t, &protocol.Ack{Spool: one[:], Conflict: ranges(0, 1)[0]}),
	} {
		if _, err := readAck(one, bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadCommand(t *testing.T) {
	const id = "01931e7c-0000-7000-8000-000000000001"
	now := time.Unix(2000, 0)
	order := &protocol.Command_Capture{Capture: &protocol.Capture{Acquisition: new("mine")}}
	if cmd, err := readCommand(encode(t, &protocol.Command{Id: new(id), Expires: new(now.UnixNano() + 1), Order: order}), now); err != nil || cmd.GetCapture() == nil {
		t.Errorf("%v, %v", cmd, err)
	}
	for name, test := range map[string]struct {
		cmd  *protocol.Command
		code string
	}{
		"no id":     {&protocol.Command{Expires: new(now.UnixNano() + 1), Order: order}, ""},
		"bad id":    {&protocol.Command{Id: new("../../etc"), Expires: new(now.UnixNano() + 1), Order: order}, ""},
		"for ever":  {&protocol.Command{Id: new(id), Order: order}, "malformed"},
		"expired":   {&protocol.Command{Id: new(id), Expires: new(now.UnixNano()), Order: order}, "expired"},
		"no order":  {&protocol.Command{Id: new(id), Expires: new(now.UnixNano() + 1)}, "unknown_order"},
		"not UTF-8": {nil, ""},
	} {
		payload := []byte{0x0a, 1, 0xff}
		if test.cmd != nil {
			payload = encode(t, test.cmd)
		}
		_, err := readCommand(payload, now)
		r, ok := errors.AsType[*refusal](err)
		if !ok || r.answer.GetReasonCode() != test.code || (r.answer != nil) != (test.code != "") {
			t.Errorf("%s: %v, answer %v", name, err, r)
		}
		if ok && r.answer != nil && (r.answer.GetCommandId() != id || r.answer.GetMessage() == "") {
			t.Errorf("%s: answer %v", name, r.answer)
		}
		if ok && r.answer != nil && r.answer.GetAcquisition() != test.cmd.GetCapture().GetAcquisition() {
			t.Errorf("%s: who ordered it cannot tell for which acquisition the answer is: %v", name, r.answer)
		}
	}
}

func FuzzReadAck(f *testing.F) {
	f.Add(encode(f, &protocol.Ack{Spool: one[:], Settled: []*protocol.SeqRange{{From: new(uint64(1)), To: new(uint64(9))}}}))
	f.Add(encode(f, &protocol.Ack{Spool: one[:], Conflict: &protocol.SeqRange{From: new(uint64(4))}}))
	f.Add([]byte(`{"spool":"0100000000000000","settled":[{"from":1,"to":2}],"conflict":{"from":2,"to":2}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		ack, err := readAck(one, payload)
		if err != nil {
			return
		}
		for _, r := range ack.settled {
			if r.From == 0 || r.To > protocol.MaxSeq || ack.conflict > 0 && r.To >= ack.conflict {
				t.Errorf("%+v", ack)
			}
		}
	})
}

func FuzzReadCommand(f *testing.F) {
	now := time.Unix(2000, 0)
	f.Add(encode(f, &protocol.Command{Id: new("01931e7c-0000-7000-8000-000000000001"), Expires: new(now.UnixNano() + 1), Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: new("x")}}}))
	f.Add([]byte(`{"id":"01931e7c-0000-7000-8000-000000000001","expires":"2100-01-01T00:00:00Z","capture":{"duration_s":5}}`))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		cmd, err := readCommand(payload, now)
		if err == nil && (cmd.GetId() == "" || cmd.GetOrder() == nil || cmd.GetExpires() <= now.UnixNano()) {
			t.Errorf("accepted %v", cmd)
		}
		if r, ok := errors.AsType[*refusal](err); err != nil && (!ok || fmt.Sprint(r) == "") {
			t.Errorf("%v is no refusal", err)
		}
	})
}
