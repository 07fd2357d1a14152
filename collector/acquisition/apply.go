package acquisition

import (
	"math"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Reasons that the conductor gives.
const (
	codeExpired   = "expired" // the station fell silent
	codeOffline   = "offline"
	codeNotSent   = "not_sent"
	codeCancelled = "cancelled"
)

// Reasons that stations give, and that may pass.
const (
	codeBusy            = "busy"
	codeReceiverOffline = "receiver_offline"
	codeInterrupted     = "interrupted" // the agent was stopped in the middle
	codeClockUncertain  = "clock_uncertain"
)

// station finds a station's part; nil when it has none.
func station(a *protocol.Acquisition, id string) *protocol.AcquisitionStation {
	for i := range a.Stations {
		if a.Stations[i].Station == id {
			return &a.Stations[i]
		}
	}
	return nil
}

// applyIssued notes commands that are on their way, and why others are not yet.
func applyIssued(a *protocol.Acquisition, commands []string, failed []failure) bool {
	changed := false
	for i := range a.Stations {
		if s := &a.Stations[i]; s.State == protocol.StationQueued && slices.Contains(commands, s.CommandID) {
			s.State, s.NextAttempt = protocol.StationSent, ""
			if s.ReasonCode == codeNotSent {
				s.ReasonCode, s.Message = "", ""
			}
			changed = true
		}
	}
	for _, f := range failed {
		if s := station(a, f.station); s != nil && s.State == protocol.StationQueued && s.ReasonCode != f.code {
			s.ReasonCode, s.Message = f.code, f.message
			changed = true
		}
	}
	return changed
}

func applyFailures(a *protocol.Acquisition, failed []failure) bool {
	changed := false
	for _, f := range failed {
		s := station(a, f.station)
		if s == nil || s.State.Settled() {
			continue
		}
		s.State = protocol.StationFailed
		if f.code == codeExpired {
			s.State = protocol.StationExpired
		}
		s.ReasonCode, s.Message, s.NextAttempt = f.code, f.message, ""
		changed = true
	}
	return changed
}

// applyRecording names a recording, which also finishes its station. A station that was given up keeps that state.
func applyRecording(a *protocol.Acquisition, r *protocol.Recording) bool {
	s := station(a, r.Station)
	if s == nil || (s.Recording == r.ID && s.State.Settled()) {
		return false
	}
	s.Recording = r.ID
	if !s.State.Settled() {
		finish(s)
	}
	return true
}

// finish settles a station whose recording is there. The reason that its last reply gave, of a capture that is shorter than
// asked, stays; that of an earlier attempt does not.
func finish(s *protocol.AcquisitionStation) {
	if s.State != protocol.StationUploading {
		s.ReasonCode, s.Message = "", ""
	}
	s.State, s.NextAttempt = protocol.StationDone, ""
}

// finishRecorded settles stations whose recording the archive has named in the store, for when the news of it was lost.
func finishRecorded(a *protocol.Acquisition) bool {
	changed := false
	for i := range a.Stations {
		if s := &a.Stations[i]; s.Recording != "" && !s.State.Settled() {
			finish(s)
			changed = true
		}
	}
	return changed
}

// applyReply moves a station on. Replies may repeat and overtake one another; a state never goes back.
func applyReply(a *protocol.Acquisition, rec *protocol.Record, now time.Time) bool {
	reply := rec.GetReply()
	s := station(a, rec.GetStation())
	if s == nil || s.CommandID != reply.GetCommandId() {
		return false
	}
	if s.State == protocol.StationDone && len(s.Measurement) == 0 {
		// The recording was finished before its reply was read here.
		s.Measurement = measurementJSON(rec)
		return len(s.Measurement) > 0
	}
	if s.State == protocol.StationCancelled && reply.GetState().Final() {
		return applyAnswer(a, s.CancelID) // whatever it did, it no longer does
	}
	if s.State.Settled() {
		return false
	}
	before := *s
	if retry(a, s, reply, now) {
		return true
	}
	switch reply.GetState() {
	case protocol.Reply_STATE_ACCEPTED:
		advance(s, protocol.StationAccepted)
	case protocol.Reply_STATE_CAPTURING:
		advance(s, protocol.StationCapturing)
	case protocol.Reply_STATE_UPLOADING:
		advance(s, protocol.StationUploading)
	case protocol.Reply_STATE_DONE:
		applyDone(a, s, rec)
	case protocol.Reply_STATE_REFUSED:
		settle(s, protocol.StationRefused, reply)
	case protocol.Reply_STATE_FAILED:
		settle(s, protocol.StationFailed, reply)
	case protocol.Reply_STATE_EXPIRED:
		settle(s, protocol.StationExpired, reply)
	case protocol.Reply_STATE_CANCELLED:
		settle(s, protocol.StationCancelled, reply)
	case protocol.Reply_STATE_UNSPECIFIED:
		return false
	}
	return before.State != s.State || before.Message != s.Message || len(before.Measurement) != len(s.Measurement)
}

func settle(s *protocol.AcquisitionStation, state protocol.StationState, reply *protocol.Reply) {
	code := reply.GetReasonCode()
	s.State, s.ReasonCode, s.Message, s.NextAttempt = state, code, lastWord(s, code, reply.GetMessage()), ""
	if reply.EarliestStart != nil {
		s.EarliestStart = protocol.FormatTime(time.Unix(0, reply.GetEarliestStart()).UTC().Truncate(time.Microsecond))
	}
}

// rank is the order of the states that a station passes on its way.
func rank(s protocol.StationState) int {
	switch s {
	case protocol.StationQueued:
		return 0
	case protocol.StationSent:
		return 1
	case protocol.StationAccepted:
		return 2
	case protocol.StationCapturing:
		return 3
	case protocol.StationUploading:
		return 4
	case protocol.StationDone, protocol.StationRefused, protocol.StationFailed, protocol.StationExpired, protocol.StationCancelled:
		return 5
	}
	return 0
}

func advance(s *protocol.AcquisitionStation, to protocol.StationState) {
	if rank(to) > rank(s.State) {
		s.State, s.NextAttempt = to, ""
		s.ReasonCode, s.Message = "", "" // why it did not serve before
	}
}

// applyDone takes the measurement out of the last reply, and why the capture is shorter than asked, if it is. The reply
// overtakes the samples, so with IQ the station is done only when its recording is.
func applyDone(a *protocol.Acquisition, s *protocol.AcquisitionStation, rec *protocol.Record) {
	if m := measurementJSON(rec); m != nil {
		s.Measurement = m
	}
	reply := rec.GetReply()
	s.ReasonCode, s.Message, s.NextAttempt = reply.GetReasonCode(), reply.GetMessage(), ""
	switch {
	case !a.Request.IQ || s.Recording != "":
		s.State = protocol.StationDone
	case reply.GetCapture().GetChunks() == 0:
		s.State, s.ReasonCode = protocol.StationFailed, "no_samples"
		s.Message = "the station says that it is done, but has no samples to send"
	default:
		s.State = protocol.StationUploading
	}
}

// measurementJSON is the measurement of a reply's capture, in the form of a measurement record; nil when it has none.
func measurementJSON(rec *protocol.Record) []byte {
	capture := rec.GetReply().GetCapture()
	m := capture.GetMeasurement()
	if m == nil {
		return nil
	}
	flat, err := protocol.FlatJSON(&protocol.Record{
		Station: rec.Station, Time: capture.Start, Receiver: capture.Receiver,
		TimeQuality: capture.TimeQuality, TimeUncertaintyS: capture.TimeUncertaintyS,
		Body: &protocol.Record_Measurement{Measurement: m},
	})
	if err != nil {
		return nil // FlatJSON refuses only records without a body
	}
	return flat
}

// summarize derives the state and progress of the whole from the stations'. A settled acquisition stays as it is.
// Uploaded tells how far a station is in its present state, 0..1, by its command.
func summarize(a *protocol.Acquisition, uploaded func(command string) float64) {
	settled, done, cancelled, begun := 0, 0, 0, 0
	sum := 0.0
	for _, s := range a.Stations {
		sum += progress(s.State, uploaded(s.CommandID))
		if s.State != protocol.StationQueued || s.Attempt > 0 {
			begun++
		}
		if s.State.Settled() {
			settled++
		}
		if s.State == protocol.StationDone {
			done++
		}
		if s.State == protocol.StationCancelled {
			cancelled++
		}
	}
	n := len(a.Stations)
	a.Progress = max(a.Progress, math.Round(sum/float64(max(n, 1))))
	switch {
	case settled < n && begun == 0:
		a.State = protocol.AcquisitionQueued
	case settled < n:
		a.State = protocol.AcquisitionRunning
	case done > 0:
		a.State, a.Progress = protocol.AcquisitionDone, 100
	case cancelled == n, cancelled > 0 && a.CancelRequested != "":
		a.State, a.Progress = protocol.AcquisitionCancelled, 100
	default:
		a.State, a.Progress = protocol.AcquisitionFailed, 100
	}
}

// progress of a station in percent: where its state begins, and how far it is in it.
func progress(s protocol.StationState, part float64) float64 {
	switch s {
	case protocol.StationQueued:
		return 0
	case protocol.StationSent:
		return 5
	case protocol.StationAccepted:
		return 10
	case protocol.StationCapturing:
		return 20 + 30*part
	case protocol.StationUploading:
		return 50 + 49*part
	case protocol.StationDone, protocol.StationRefused, protocol.StationFailed, protocol.StationExpired, protocol.StationCancelled:
		return 100
	}
	return 0
}
