package api_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func TestConditional_WhatTheClientHasIsNotSentAgain(t *testing.T) {
	w := newWorld()
	h := w.handler(t)
	for _, path := range []string{
		"stations", "stations/torino", "measurements", "acquisitions", "acquisitions/" + acquisitionID, "recordings", "recordings/" + captureID, "openapi.json",
	} {
		path = "/api/v1/" + path
		first := get(t, h, "GET", path)
		tag := first.Header().Get("ETag")
		moves := strings.HasPrefix(path, "/api/v1/stations")
		if strings.HasPrefix(tag, "W/") != moves || !strings.Contains(tag, `"`) || first.Header().Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%s: headers %v", path, first.Header())
		}
		for given, want := range map[string]int{
			tag: 304, strings.TrimPrefix(tag, "W/"): 304, "W/" + strings.TrimPrefix(tag, "W/"): 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200, "other": 200, "": 200,
		} {
			for _, method := range []string{"GET", "HEAD"} {
				answer := get(t, h, method, path, "If-None-Match", given)
				if answer.Code != want || answer.Header().Get("ETag") != tag || (want == 304 || method == "HEAD") != (answer.Body.Len() == 0) {
					t.Errorf("%s %s, If-None-Match %s: status %d, %d bytes, %v; want %d", method, path, given, answer.Code, answer.Body.Len(), answer.Header(), want)
				}
			}
		}
	}
	before := get(t, h, "GET", "/api/v1/acquisitions/"+acquisitionID).Header().Get("ETag")
	a, err := w.commander.one(t.Context(), acquisitionID)
	if err != nil {
		t.Fatal(err)
	}
	a.State = protocol.AcquisitionRunning
	if answer := get(t, h, "GET", "/api/v1/acquisitions/"+acquisitionID, "If-None-Match", before); answer.Code != http.StatusOK {
		t.Errorf("a change: status %d", answer.Code)
	}
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics"} { // what they say is never old
		if answer := get(t, h, "GET", path); answer.Header().Get("ETag") != "" || answer.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, answer.Header())
		}
	}
}

// Histories move on with the clock, and stations that are online are heard of all the time: neither is news.
func TestConditional_StationsStayTheSameWhileOnlyTimePasses(t *testing.T) {
	w := newWorld()
	first := protocol.Station{
		ID: "torino", Number: 1, Status: protocol.Online, LastSeen: "2026-11-24T12:00:00.000000000Z",
		Receivers: []protocol.ReceiverInfo{{ID: "vhf", CenterHz: 145.5e6, HistoryFrom: "2026-11-24T11:59:00.000000000Z"}},
	}
	now := first
	w.reader.stations = func(context.Context) ([]protocol.Station, error) { return []protocol.Station{now}, nil }
	w.reader.station = func(context.Context, string) (*protocol.Station, error) { return &now, nil }
	h := w.handler(t)
	for _, path := range []string{"/api/v1/stations", "/api/v1/stations/torino"} {
		now = first
		tag := get(t, h, "GET", path).Header().Get("ETag")
		for name, c := range map[string]struct {
			change func(s *protocol.Station, r *protocol.ReceiverInfo)
			want   int
		}{
			"nothing": {func(*protocol.Station, *protocol.ReceiverInfo) {}, 304},
			"a second": {func(s *protocol.Station, r *protocol.ReceiverInfo) {
				s.LastSeen, r.HistoryFrom = "2026-11-24T12:00:01.000000000Z", "2026-11-24T11:59:01.000000000Z"
			}, 304},
			"no history":        {func(_ *protocol.Station, r *protocol.ReceiverInfo) { r.HistoryFrom = "" }, 200},
			"another frequency": {func(_ *protocol.Station, r *protocol.ReceiverInfo) { r.CenterHz = 1e6 }, 200},
			"gone":              {func(s *protocol.Station, _ *protocol.ReceiverInfo) { s.Status = protocol.Offline }, 200},
		} {
			now = first
			now.Receivers = slices.Clone(first.Receivers)
			c.change(&now, &now.Receivers[0])
			answer := get(t, h, "GET", path, "If-None-Match", tag)
			if answer.Code != c.want {
				t.Errorf("%s after %s: status %d, want %d", path, name, answer.Code, c.want)
			}
			if got := get(t, h, "GET", path).Body.String(); now.LastSeen != first.LastSeen && !strings.Contains(got, now.Receivers[0].HistoryFrom) {
				t.Errorf("%s after %s: %s, want the truth of now where the body is asked for", path, name, got)
			}
		}
		// Of a station that is offline it is news that it was heard of later.
		now.Status, now.LastSeen = protocol.Offline, "2026-11-24T12:00:00.000000000Z"
		tag = get(t, h, "GET", path).Header().Get("ETag")
		now.LastSeen = "2026-11-24T12:00:01.000000000Z"
		if answer := get(t, h, "GET", path, "If-None-Match", tag); answer.Code != http.StatusOK {
			t.Errorf("%s: a station that is offline, heard of later: status %d", path, answer.Code)
		}
	}
}

func TestConditional_SamplesAreNamedByTheirHash(t *testing.T) {
	h, samples := stocked(t)
	path := "/api/v1/recordings/" + captureID + ".sigmf-data"
	sum := sha512.Sum512(samples)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	header := get(t, h, "HEAD", path).Header()
	if header.Get("ETag") != tag || header.Get("Repr-Digest") != "sha-512=:"+base64.StdEncoding.EncodeToString(sum[:])+":" {
		t.Errorf("headers %v", header)
	}
	tags := map[string]bool{tag: true}
	for _, suffix := range []string{".sigmf", ".sigmf-meta"} {
		other := get(t, h, "HEAD", "/api/v1/recordings/"+captureID+suffix).Header().Get("ETag")
		if other == "" || tags[other] {
			t.Errorf("%s: ETag %s", suffix, other)
		}
		tags[other] = true
	}
	for _, c := range []struct {
		headers []string
		status  int
		from    int // of the samples that are sent; the end, -1 for none
		to      int
	}{
		{[]string{"If-None-Match", tag}, 304, 0, -1},
		{[]string{"Range", "bytes=8-15", "If-Range", tag}, 206, 8, 16},
		{[]string{"Range", "bytes=8-15", "If-Range", "W/" + tag}, 200, 0, len(samples)},
		{[]string{"Range", "bytes=8-15", "If-Range", `"other"`}, 200, 0, len(samples)},
		{[]string{"Range", "bytes=8-15", "If-Match", tag}, 206, 8, 16},
		{[]string{"Range", "bytes=-8"}, 206, len(samples) - 8, len(samples)},
	} {
		answer := get(t, h, "GET", path, c.headers...)
		want := []byte{}
		if c.to >= 0 {
			want = samples[c.from:c.to]
		}
		if answer.Code != c.status || !bytes.Equal(answer.Body.Bytes(), want) {
			t.Errorf("%v: status %d, %d bytes; want %d, %d bytes", c.headers, answer.Code, answer.Body.Len(), c.status, len(want))
		}
	}
	for _, headers := range [][]string{{"If-Match", `"other"`}, {"If-Unmodified-Since", "Mon, 23 Nov 2026 12:00:00 GMT"}} {
		if p := problem(t, get(t, h, "GET", path, headers...)); p.Status != http.StatusPreconditionFailed || p.Errors[0].Field != headers[0] {
			t.Errorf("%v: %+v", headers, p)
		}
	}
}
