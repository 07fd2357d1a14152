package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// A station that has more to say than its daily_bytes, on a real broker: it stays within what a day's beginning allows, and its state,
// its gaps and its status say what it left out.
func TestDaily(t *testing.T) {
	broker := servers.Mosquitto(t)
	latest, _ := retained(t, broker.URL)
	here := newSite(t, "control: {allow: [capture]}\ndelivery: {daily_bytes: 2MiB}\nmqtt: {url: \""+broker.URL+"\"}")
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour)
	pi := newComputer(time.Until(noon.Add(-12*time.Hour + time.Minute)))
	a, stop := here.startWith(t, pi.clock)
	here.hears(t)
	eventually(t, "the state says what is left out", func() error {
		s, err := stateIn(latest("heimdall/v1/torino/state"))
		if err != nil || s.State != "degraded" || !strings.Contains(s.Reason, "spectra, measurements (averaged") {
			return fmt.Errorf("%+v (%w)", s, err)
		}
		return nil
	})
	order := capture(1)
	cmd := ordered(order)
	cmd.Expires = proto.Int64(pi.clock.Now().Add(time.Minute).UnixNano())
	a.orders.take(t.Context(), cmd)
	if reply := lastReply(t, a, cmd); reply.GetState() != protocol.Reply_STATE_REFUSED || reply.GetReasonCode() != "quota" || !strings.Contains(reply.GetMessage(), "delivery.daily_bytes") {
		t.Errorf("IQ: %v", reply)
	}
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(text, " of 2 MiB sent today (UTC), ") || !strings.Contains(text, "not all is sent today (UTC) of IQ, spectra") {
		t.Errorf("status: %v\n%s", err, text)
	}
	account := a.daily.Account()
	if passed := 2 << 20 / 50; account.UsedBytes > int64(passed)+20e3 {
		t.Errorf("%d bytes a minute after midnight, of about %d", account.UsedBytes, passed)
	}
	stop()

	byKind := here.records(t)
	told := map[string]uint64{}
	for _, r := range byKind[protocol.KindGap] {
		if g := r.GetGap(); g.GetReason() == protocol.Gap_REASON_QUOTA {
			told[g.GetLane()] += g.GetRecords()
		}
	}
	if told["spectrum"] == 0 || told["measurement"] == 0 {
		t.Errorf("the gaps tell of %v", told)
	}
	again := here.openWith(t, pi.clock)
	defer again.Close()
	if got := again.daily.Account(); got.UsedBytes < account.UsedBytes || got.Day != account.Day {
		t.Errorf("after a restart %+v, before %+v", got, account)
	}
}
