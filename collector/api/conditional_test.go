package api_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"net/http"
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
		if tag == "" || tag[0] != '"' || first.Header().Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%s: headers %v", path, first.Header())
		}
		for given, want := range map[string]int{
			tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200, "other": 200, "": 200,
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
