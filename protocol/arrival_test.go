package protocol_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulgidus/heimdall/protocol"
)

func TestArrival_ReadsBackAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 24, 2, 0, 5, 250_000_000, time.UTC)
	for text, want := range map[string]protocol.Arrival{
		"2026-11-24T02:00:05.250000Z": {Received: at},
		"2026-11-24T02:00:05.250000Z/detection/torino/3f9a0017c451e208/4711": {
			Received: at, Kind: protocol.KindDetection, Station: "torino", Spool: []byte{0x3f, 0x9a, 0, 0x17, 0xc4, 0x51, 0xe2, 8}, Seq: 4711,
		},
	} {
		got, err := protocol.ParseArrival(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" || got.String() != text {
			t.Errorf("%s: %s, %v\n%s", text, got, err, diff)
		}
	}
	if got, err := protocol.ParseArrival("2026-11-24T04:00:05+02:00"); err != nil || !got.Received.Equal(at.Truncate(time.Second)) {
		t.Errorf("another zone: %s, %v", got, err)
	}
}

func TestArrival_RefusesOthers(t *testing.T) {
	const at = "2026-11-24T02:00:05Z"
	for _, text := range []string{
		"", "17", "yesterday", "0001-01-01T00:00:00Z", at + "/", at + "/gap", at + "/gap/torino/3f9a0017c451e208", at + "/gap/torino/3f9a0017c451e208/1/2",
		at + "/gap/Torino/3f9a0017c451e208/1", at + "/gap/torino/3f9a/1", at + "/gap/torino/xx9a0017c451e208/1", at + "/gap/torino/3f9a0017c451e208/-1",
		at + "/gap/torino/3f9a0017c451e208/9223372036854775808", at + "/iq/torino/3f9a0017c451e208/1", at + "/fish/torino/3f9a0017c451e208/1",
	} {
		if got, err := protocol.ParseArrival(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func FuzzParseArrival(f *testing.F) {
	f.Add("2026-11-24T02:00:05.250000Z")
	f.Add("2026-11-24T02:00:05.250000Z/detection/torino/3f9a0017c451e208/4711")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := protocol.ParseArrival(text)
		if err != nil {
			return
		}
		again, err := protocol.ParseArrival(a.String())
		if diff := cmp.Diff(a, again); err != nil || diff != "" {
			t.Errorf("%q is %s: %v %s", text, a, err, diff)
		}
	})
}
