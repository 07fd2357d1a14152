package acquisition

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	pauseMin = time.Second
	pauseMax = 10 * time.Minute
	// lastTry is how long before a command's expiry it must be on its way.
	lastTry = time.Second
	// issueAhead is how long before its start a capture is ordered: agents refuse what is more than a day ahead.
	issueAhead = 23 * time.Hour
	// A station that is not connected is waited for when it was seen so lately, or when the start is so far ahead.
	awayFor   = 2 * time.Minute
	waitAhead = 10 * time.Second
)

// passing tells whether a reason that a station gives for not serving may pass.
func passing(code string) bool {
	switch code {
	case codeBusy, codeReceiverOffline, codeInterrupted, codeClockUncertain:
		return true
	}
	return false
}

// retry has a station asked again, where its reply means "not now" and a later answer can still be another. The start stays:
// all stations are to hear the same stretch, and what of it has passed is in their histories, as long as these reach. It is
// asked under a new command id, for a station executes an id once; so late replies to the old one change nothing any more.
func retry(a *protocol.Acquisition, s *protocol.AcquisitionStation, reply *protocol.Reply, now time.Time) bool {
	refused := reply.GetState() == protocol.Reply_STATE_REFUSED || reply.GetState() == protocol.Reply_STATE_FAILED
	if !refused || !passing(reply.GetReasonCode()) || a.CancelRequested != "" {
		return false
	}
	start := timeOf(a.StartTime)
	at := now.Add(pause(now, later(start, timeOf(a.Requested))))
	until := expiry(a).Add(-lastTry)
	if reply.EarliestStart != nil && time.Unix(0, reply.GetEarliestStart()).After(start) {
		until = start // others have the receiver then: only if they give it up before can it serve
	}
	if !at.Before(until) {
		return false
	}
	s.Message = notYet(s, reply.GetReasonCode(), protocol.Cause(reply.GetMessage()))
	s.State, s.ReasonCode = protocol.StationQueued, reply.GetReasonCode()
	s.CommandID, s.NextAttempt = newID(), protocol.FormatTime(at.UTC().Truncate(time.Microsecond))
	s.Attempt++
	return true
}

// pause is how long to wait before a station is asked again: a quarter of what is left to the start, so that it is asked
// shortly before that, too; then as long as it is past, so that the pauses double. Each is up to a fifth longer or shorter.
func pause(now, start time.Time) time.Duration {
	p := now.Sub(start)
	if p < 0 {
		p = -p / 4
	}
	p = min(max(p, pauseMin), pauseMax)
	return p - p/5 + rand.N(2*p/5)
}

// waitsFor tells whether a station that is not connected is worth waiting for.
func waitsFor(s protocol.Station, start, now time.Time) bool {
	return now.Sub(timeOf(s.LastSeen)) <= awayFor || start.Sub(now) > waitAhead
}

// atFirst stands before the first cause, in brackets behind the latest.
const atFirst = "at first: "

// notYet is why a station could not serve, while it is asked again.
func notYet(s *protocol.AcquisitionStation, code, cause string) string {
	if first := firstCause(s, code); first != "" {
		return cause + " (" + atFirst + first + ")"
	}
	return cause
}

// lastWord is why a station did not serve. After several attempts it tells how many these were and what the first cause was,
// and does not advise what was done.
func lastWord(s *protocol.AcquisitionStation, code, cause string) string {
	if s.Attempt == 0 {
		return cause
	}
	asked := fmt.Sprintf("asked %d times", s.Attempt+1)
	if first := firstCause(s, code); first != "" {
		asked += "; " + atFirst + first
	}
	return protocol.Cause(cause) + " (" + asked + ")"
}

// firstCause is why a station could not serve at first, in words; empty when there is nothing to say but the new reason.
func firstCause(s *protocol.AcquisitionStation, code string) string {
	const mark = "(" + atFirst
	if i := strings.LastIndex(s.Message, mark); i >= 0 {
		return strings.TrimSuffix(s.Message[i+len(mark):], ")")
	}
	if s.Attempt == 0 || s.ReasonCode == code {
		return ""
	}
	return s.Message
}
