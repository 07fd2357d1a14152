package acquisition

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fulgidus/heimdall/protocol"
)

// FuzzReplies has a station say anything, in any order, with a cancel between. Whatever it says, its part passes only states
// that there are, stays settled once it is, and is never to be asked after its commands expire.
func FuzzReplies(f *testing.F) {
	f.Add(uint8(6), "busy", "no", int64(0), uint8(4), "", uint32(3), true, uint8(1))
	f.Add(uint8(7), "interrupted", "", int64(1<<62), uint8(5), "", uint32(0), false, uint8(0))
	f.Add(uint8(2), "receiver_offline", "\xff\x00", int64(-1<<63), uint8(9), "clock_uncertain", uint32(1<<31), true, uint8(2))
	f.Fuzz(func(t *testing.T, state1 uint8, code1, message string, earliest int64, state2 uint8, code2 string, chunks uint32, iq bool, cancelAt uint8) {
		now := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
		a := &protocol.Acquisition{
			ID: "a", Requested: protocol.FormatTime(now), StartTime: protocol.FormatTime(now.Add(500 * time.Millisecond)),
			Request:  protocol.AcquisitionRequest{FrequencyHz: 145.5e6, DurationS: 5, IQ: iq},
			Stations: []protocol.AcquisitionStation{{Station: "north", State: protocol.StationSent, CommandID: newID()}},
		}
		s := &a.Stations[0]
		for i := range 12 {
			if i == int(cancelAt) {
				cancel(a, protocol.FormatTime(now))
			}
			state, code := protocol.Reply_State(state1), code1
			if i%2 == 1 {
				state, code = protocol.Reply_State(state2), code2
			}
			before := *s
			applyReply(a, &protocol.Record{Station: &s.Station, Body: &protocol.Record_Reply{Reply: &protocol.Reply{
				CommandId: &s.CommandID, Acquisition: &a.ID, State: &state, ReasonCode: &code, Message: &message, EarliestStart: &earliest,
				Capture: &protocol.CaptureManifest{Chunks: &chunks, Measurement: &protocol.Measurement{}},
			}}}, now)
			summarize(a, func(string) float64 { return 0.5 })
			switch {
			case before.State.Settled() && s.State != before.State:
				t.Fatalf("%s became %s", before.State, s.State)
			case s.Attempt > before.Attempt && (s.CommandID == before.CommandID || s.State != protocol.StationQueued || a.CancelRequested != ""):
				t.Fatalf("asked again as %+v after %+v", s, before)
			case s.NextAttempt != "" && !timeOf(s.NextAttempt).Before(expiry(a)):
				t.Fatalf("asked again at %s, and commands expire at %s", s.NextAttempt, expiry(a))
			case s.State.Settled() != settled(a), a.Progress < 0 || a.Progress > 100:
				t.Fatalf("%s, %s, %g %%", s.State, a.State, a.Progress)
			}
			if _, err := json.Marshal(a); err != nil && utf8.ValidString(message) {
				t.Fatal(err)
			}
			for _, o := range due(a, now) {
				cmd, err := o.command(a)
				if err == nil {
					err = protocol.ValidateCommand(cmd)
				}
				if err != nil {
					t.Fatalf("order %+v: %v", o, err)
				}
			}
			now = now.Add(3 * time.Second)
		}
	})
}
