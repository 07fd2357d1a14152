package link_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// cancelOrder is an order as it travels.
func cancelOrder(t *testing.T, n int, until time.Time) []byte {
	t.Helper()
	id := fmt.Sprintf("018f4a2e-0000-7000-8000-%012x", n)
	b, err := protocol.Encode(&protocol.Command{Id: &id, Expires: new(until.UnixNano()), Order: &protocol.Command_Cancel{Cancel: &protocol.Cancel{Id: &id}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A collector that acknowledges what was never sent, in reverse, without end, of other spools, and gives thousands of orders that make no
// sense costs the station no record: they are delivered once an honest one is there. The log has a line of each, and few orders
// leave a reply.
func TestLink_LyingCollector(t *testing.T) {
	broker := servers.Mosquitto(t)
	var text safeBuffer
	a := startAgent(t, broker.URL, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	eventually(t, "connected", a.Connected)
	a.add(t, 1, 50)
	liar := dial(t, broker.URL, "liar", "", nil)
	defer liar.Disconnect(100)
	publish := func(topic string, retained bool, payload []byte) {
		t.Helper()
		if token := liar.Publish(topic, 1, retained, payload); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
			t.Fatal(topic, token.Error())
		}
	}
	own := a.spool.Identity()
	pairs := func(list ...uint64) (ranges []*protocol.SeqRange) {
		for i := 0; i < len(list); i += 2 {
			ranges = append(ranges, &protocol.SeqRange{From: &list[i], To: &list[i+1]})
		}
		return ranges
	}
	for _, ack := range []*protocol.Ack{
		{Spool: own[:], Settled: pairs(20, 1)},
		{Spool: own[:], Settled: pairs(0, protocol.MaxSeq)},
		{Spool: own[:], Settled: pairs(1, protocol.MaxSeq+1)},
		{Spool: own[:], Settled: pairs(5, 9, 1, 3, 2, 8)},
		{Spool: []byte("another!"), Settled: pairs(1, 50)},
		{Spool: []byte("x"), Settled: pairs(1, 50)},
		{Spool: own[:], Conflict: pairs(9, 3)[0]},
		{Spool: own[:], Rejected: pairs(1, protocol.MaxSeq), RejectedCount: new(uint64(1 << 63))},
	} {
		payload, err := protocol.Encode(ack)
		if err != nil {
			t.Fatal(err)
		}
		publish(topics.Ack(station, own), true, payload)
		publish(topics.Ack(station, [8]byte([]byte("another!"))), true, payload)
	}
	for n := range 2000 {
		liar.Publish(topics.Command(station), 0, false, cancelOrder(t, n, time.Now().Add(-time.Minute))) // expired
		liar.Publish(topics.Command(station), 0, false, cancelOrder(t, n%3, time.Now().Add(time.Minute)))
		liar.Publish(topics.Command(station), 0, false, []byte(strings.Repeat("\xff", n)))
		liar.Publish(topics.CollectorStatus(fmt.Sprintf("evil-%d", n)), 0, false, []byte(protocol.Online))
	}
	for n := range 2000 { // and away again, so that the honest one is alone
		liar.Publish(topics.CollectorStatus(fmt.Sprintf("evil-%d", n)), 0, false, []byte(protocol.Offline))
	}
	publish(topics.Command(station), false, []byte("{"))

	c := newCollector(t, "main")
	c.online(broker.URL)
	a.add(t, 51, 60)
	eventually(t, "all acknowledged", a.empty)
	numbers, _ := c.count(own)
	if numbers != 60 || a.spool.Identity() != own {
		t.Errorf("%d of 60 records came under their first identity", numbers)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) > 70 || len(a.orders) > 1010 {
		t.Errorf("%d orders were answered and %d passed on, of a flood of thousands", len(a.answers), len(a.orders))
	}
	for _, r := range a.answers {
		if r.GetReasonCode() == "" || r.GetMessage() == "" {
			t.Errorf("an answer without a reason: %v", r)
		}
	}
	for what, most := range map[string]int{"an order was refused": 2, "an acknowledgement makes no sense": 2} {
		if n := strings.Count(text.String(), what); n < 1 || n > most {
			t.Errorf("%q is in the log %d times", what, n)
		}
	}
	if n := strings.Count(text.String(), "\n"); n > 60 {
		t.Errorf("%d lines of log", n)
	}
}

// A broker that hands the station what others' topics hold is not listened to there.
func TestLink_BrokerSendsWhatIsForOthers(t *testing.T) {
	id := "018f4a2e-0000-7000-8000-000000000001"
	order := cancelOrder(t, 1, time.Now().Add(time.Hour))
	packet := func(topic string, payload []byte) []byte {
		body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
		body = append(body, payload...)
		if len(body) > 127 {
			return append([]byte{0x30, byte(len(body))&0x7f | 0x80, byte(len(body) >> 7)}, body...)
		}
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	welcome := []byte{0x20, 2, 0, 0}
	var then []byte
	for n := range len(topics.AgentFilters(station)) + 2 { // what it asks for and says first, not the records
		then = append(then, 0x90, 3, 0, byte(n+1), 1)
		then = append(then, 0x40, 2, 0, byte(n+1))
	}
	then = append(then, packet(topics.Command("genova"), order)...)
	then = append(then, packet(topics.Status("genova"), []byte(protocol.Offline))...)
	then = append(then, packet("elsewhere/"+id, order)...)
	var text, heard safeBuffer
	url, visits := hostile(t, &heard, welcome, then)
	a := startAgent(t, url, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	a.add(t, 1, 5)
	eventually(t, "it says so", func() bool {
		return strings.Contains(text.String(), "a message that is not for this station was ignored")
	})
	// It never acknowledges either: the station counts it as silent, goes away, and keeps what it has.
	eventually(t, "it tries again", func() bool { return visits.Load() >= 2 })
	a.stop()
	if len(a.orders)+len(a.answers) > 0 {
		t.Errorf("orders %v, answers %v", a.orders, a.answers)
	}
	if got := a.spool.Stats().Records; got < 5 {
		t.Errorf("%d records are left of 5", got)
	}
}

// An answer with more codes than filters were asked for ends the connection, not the program, which it would if the client saw it.
func TestLink_BrokerGrantsWhatNobodyAskedFor(t *testing.T) {
	then := []byte{}
	for n := byte(1); n <= 20; n++ {
		then = append(then, 0x90, 5, 0, n, 1, 1, 1)
	}
	var text, heard safeBuffer
	url, visits := hostile(t, &heard, []byte{0x20, 2, 0, 0}, then)
	a := startAgent(t, url, func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&text, nil)) })
	eventually(t, "it tries again", func() bool { return visits.Load() >= 3 })
	a.stop()
	if !strings.Contains(text.String(), "answered a subscription with other than one code") {
		t.Errorf("the log does not say why:\n%s", text.String())
	}
}
