package main

import (
	"context"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// The parts never import one another. What one gives and another takes differs here and there; these types bridge that.

// captureSource shows the store to the archive, and tells the acquisition what became of a capture.
type captureSource struct {
	*store.DB
	collector *Collector
}

// CompleteCaptures lists captures all of whose chunks are in.
func (s captureSource) CompleteCaptures(ctx context.Context) ([]archive.Capture, error) {
	found, err := s.DB.CompleteCaptures(ctx)
	captures := make([]archive.Capture, len(found))
	for i, c := range found {
		captures[i] = archive.Capture(c)
	}
	return captures, err
}

// FinishRecording records a complete recording.
func (s captureSource) FinishRecording(ctx context.Context, r *protocol.Recording) error {
	if err := s.DB.FinishRecording(ctx, r); err != nil {
		return err
	}
	s.collector.acquisitions.RecordingStored(ctx, r)
	return nil
}

// FailRecording records that a capture can never become a recording.
func (s captureSource) FailRecording(ctx context.Context, c archive.Capture, reason string) error {
	if err := s.DB.FailRecording(ctx, c.Station, c.Reply.GetCapture().GetId(), reason); err != nil {
		return err
	}
	s.collector.acquisitions.RecordingFailed(ctx, c.Reply.GetAcquisition(), c.Station, reason)
	return nil
}

// stationSaver keeps what stations say of themselves, and tells the API's clients.
type stationSaver struct{ *Collector }

// SaveStatus keeps whether a station is online. One that has come online is told what it missed.
func (s stationSaver) SaveStatus(ctx context.Context, station string, online bool, at time.Time) error {
	err := s.saved(ctx, station, s.store.SaveStatus(ctx, station, online, at))
	if err == nil && online {
		s.acquisitions.StationOnline(station)
	}
	return err
}

// SaveInfo keeps a station's description.
func (s stationSaver) SaveInfo(ctx context.Context, station string, info *protocol.Info, at time.Time) error {
	return s.saved(ctx, station, s.store.SaveInfo(ctx, station, info, at))
}

// SaveState keeps a station's condition.
func (s stationSaver) SaveState(ctx context.Context, station string, state *protocol.State, at time.Time) error {
	return s.saved(ctx, station, s.store.SaveState(ctx, station, state, at))
}

func (s stationSaver) saved(ctx context.Context, station string, err error) error {
	if err == nil {
		s.tellStation(ctx, station)
	}
	return err
}

// suspender keeps which stations are suspended, and tells the API's clients.
type suspender struct{ *Collector }

// Suspend notes that nothing is read of a station for a time.
func (s suspender) Suspend(ctx context.Context, of protocol.Suspension) error {
	return stationSaver(s).saved(ctx, of.Station, s.store.Suspend(ctx, of))
}

// Suspensions lists the latest one of each station.
func (s suspender) Suspensions(ctx context.Context) ([]protocol.Suspension, error) {
	return s.store.Suspensions(ctx)
}

// commander shows acquisitions to the API: the conductor begins them, the store knows them.
type commander struct {
	*acquisition.Conductor
	*store.DB
}
