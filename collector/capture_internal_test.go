package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// TestCaptureOfADetection orders what lay around a detection of one station from all of them.
func TestCaptureOfADetection(t *testing.T) {
	w := startCollector(t, testConfig(t)).ready(t)
	torino := playStation(t, w.BrokerURL(), "torino")
	playStation(t, w.BrokerURL(), "genova")
	eventually(t, "two stations take orders", func() bool {
		all, err := w.store.Stations(t.Context())
		return err == nil && len(all) == 2 && len(all[0].Capabilities) == 1 && len(all[1].Capabilities) == 1
	})
	torino.detect()
	w.stored(t, "detections", 1)
	stored, _, err := w.store.Records(t.Context(), protocol.KindDetection, protocol.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	seen := stored[0].Record
	var made protocol.Acquisition
	if err := w.remote.call(t.Context(), http.MethodPost, "/api/v1/detections/"+seen.GetDetection().GetDetectionId()+"/capture", nil, &made); err != nil {
		t.Fatal(err)
	}
	done, err := w.remote.watch(t.Context(), made.ID, func(*protocol.Acquisition) {})
	if err != nil || done.State != protocol.AcquisitionDone || len(done.Stations) != 2 {
		t.Fatalf("%+v, %v; want both stations done", done, err)
	}
	// 125 ms and half a second on either side, at the detection's centre.
	if got := done.Request; got.DurationS != 1.125 || got.FrequencyHz != 145.5e6 || got.BandwidthHz != nil || !got.IQ {
		t.Errorf("request %+v", got)
	}
	want := time.Unix(0, seen.GetTime()).Add(-500 * time.Millisecond).Truncate(time.Microsecond) // what databases keep
	for _, s := range done.Stations {
		recording, err := w.store.Recording(t.Context(), s.Recording)
		if err != nil {
			t.Errorf("%s: %v", s.Station, err)
			continue
		}
		if recording.AskedStart == "" {
			recording.AskedStart = recording.Start // the player starts when it is told
		}
		if got := recording.AskedStart; got != protocol.FormatTime(want) {
			t.Errorf("%s: recording starts at %s, want %s", s.Station, got, protocol.FormatTime(want))
		}
	}
}
