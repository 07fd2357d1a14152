package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

func TestReach_AsPeopleThinkOfIt(t *testing.T) {
	for _, c := range []struct {
		historyS float64
		held     int
		want     string
	}{
		{0, 0, "history reaches back 0 s"},
		{27.4, 0, "history reaches back 27 s"},
		{13.98, 1, "history reaches back 14 s, 1 detection held"},
		{119.4, 3, "history reaches back 119 s, 3 detections held"},
		{1398, 256, "history reaches back 23 min, 256 detections held"},
		{9000, 0, "history reaches back 2.5 h"},
	} {
		if got := reach(c.historyS, c.held); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestTapLine_SaysHowFarBackItReaches(t *testing.T) {
	line := lineOf(survey.Snapshot{
		Receiver: "r0", Step: "2m", History: 27 * time.Second, Held: 3,
		Measurement: &protocol.Record{Time: proto.Int64(1e18), Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{}}},
	})
	if line.HistoryS != 27 || line.Held != 3 {
		t.Errorf("got %v s and %d held", line.HistoryS, line.Held)
	}
	if text := line.String(); !strings.Contains(text, "  history reaches back 27 s, 3 detections held  clock ") {
		t.Errorf("got %s", text)
	}
}
