package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func TestRecordings_FilesAndRanges(t *testing.T) {
	h := newWorld().handler(t)
	base := "/api/v1/recordings/" + captureID
	for _, c := range []struct {
		path, ask      string
		status         int
		body, mimeType string
		contentRange   string
	}{
		{base + ".sigmf-data", "", 200, "0123456789", "application/octet-stream", ""},
		{base + ".sigmf-data", "bytes=2-4", 206, "234", "application/octet-stream", "bytes 2-4/10"},
		{base + ".sigmf-data", "bytes=7-", 206, "789", "application/octet-stream", "bytes 7-9/10"},
		{base + ".sigmf-data", "bytes=-3", 206, "789", "application/octet-stream", "bytes 7-9/10"},
		{base + ".sigmf-data", "bytes=8-99", 206, "89", "application/octet-stream", "bytes 8-9/10"},
		{base + ".sigmf-data", "Bytes= 0-1", 206, "01", "application/octet-stream", "bytes 0-1/10"},
		{base + ".sigmf-data", "bytes=,2-3 , ", 206, "23", "application/octet-stream", "bytes 2-3/10"},
		{base + ".sigmf-data", "bytes=8-99999999999999999999", 206, "89", "application/octet-stream", "bytes 8-9/10"},
		{base + ".sigmf-data", "bytes=-99999999999999999999", 206, "0123456789", "application/octet-stream", "bytes 0-9/10"},
		{base + ".sigmf-data", "bytes=0000000000000000000000008-9", 206, "89", "application/octet-stream", "bytes 8-9/10"},
		{base + ".sigmf-meta", "", 200, `{"global":{}}`, "application/json", ""},
		{base + ".sigmf", "", 200, "tar", "application/x-tar", ""},
	} {
		answer := get(t, h, "GET", c.path, "Range", c.ask)
		if answer.Code != c.status || answer.Body.String() != c.body {
			t.Errorf("%s, range %q: status %d, body %q; want %d, %q", c.path, c.ask, answer.Code, answer.Body, c.status, c.body)
		}
		header := answer.Header()
		if header.Get("Content-Type") != c.mimeType || header.Get("Content-Range") != c.contentRange || header.Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s, range %q: headers %v", c.path, c.ask, header)
		}
		if header.Get("ETag") == "" || header.Get("Last-Modified") != "Tue, 24 Nov 2026 12:00:00 GMT" ||
			header.Get("Content-Disposition") != "attachment; filename=torino_"+strings.TrimPrefix(c.path, "/api/v1/recordings/") {
			t.Errorf("%s: headers %v", c.path, header)
		}
	}
}

// What is no range of bytes is answered as if it were not there.
func TestRecordings_OtherUnitsAndWhatIsNoRangeGiveTheWholeFile(t *testing.T) {
	h := newWorld().handler(t)
	for _, asked := range []string{
		"foo=1", "lines=1-2", "bytes=a-b", "bytes=5-2", "bytes=0-1,5-2", "bytes=", "bytes=-", "bytes 0-1", "bytes=0-1;2-3", "bytes=+1-2", "bytes=0x1-0x2", "bytes=--1",
		"bytes=1", "=", "none", "bytes=\x00", strings.Repeat("bytes=0-1,", 1000),
	} {
		answer := get(t, h, "GET", "/api/v1/recordings/"+captureID+".sigmf-data", "Range", asked)
		if answer.Code != http.StatusOK || answer.Body.String() != "0123456789" || answer.Header().Get("Content-Range") != "" {
			t.Errorf("range %.40q: status %d, %q", asked, answer.Code, answer.Body)
		}
	}
}

func FuzzRecordings_Range(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=,-99999999999999999999,3-", "foo=1", "bytes=5-2", "Bytes= 000000000000000000000000-"} {
		f.Add(s)
	}
	h := newWorld().handler(f)
	f.Fuzz(func(t *testing.T, asked string) {
		answer := get(t, h, "GET", "/api/v1/recordings/"+captureID+".sigmf-data", "Range", asked)
		switch answer.Code {
		case http.StatusOK, http.StatusPartialContent:
		case http.StatusRequestedRangeNotSatisfiable:
			if answer.Header().Get("Content-Range") != "bytes */10" {
				t.Errorf("%q: 416 without the length: %v", asked, answer.Header())
			}
		default:
			t.Errorf("%q: status %d", asked, answer.Code)
		}
	})
}

func TestRecordings_WrongRangesAreProblems(t *testing.T) {
	h := newWorld().handler(t)
	for _, asked := range []string{"bytes=10-", "bytes=20-30", "bytes=99999999999999999999-", "bytes=20-30,40-"} {
		answer := get(t, h, "GET", "/api/v1/recordings/"+captureID+".sigmf-data", "Range", asked)
		p := problem(t, answer)
		if answer.Code != http.StatusRequestedRangeNotSatisfiable || p.Errors[0].Field != "Range" || p.Errors[0].Value != asked {
			t.Errorf("range %q: %+v", asked, p)
		}
		if answer.Header().Get("Content-Range") != "bytes */10" {
			t.Errorf("range %q: headers %v do not say the length", asked, answer.Header())
		}
		if answer.Header().Get("ETag") != "" || answer.Header().Get("Content-Disposition") != "" {
			t.Errorf("range %q: headers of the file are left: %v", asked, answer.Header())
		}
	}
}

func TestRecordings_UnchangedFilesAreNotSentAgain(t *testing.T) {
	h := newWorld().handler(t)
	path := "/api/v1/recordings/" + captureID + ".sigmf-data"
	tag := get(t, h, "GET", path).Header().Get("ETag")
	if answer := get(t, h, "GET", path, "If-None-Match", tag); answer.Code != http.StatusNotModified || answer.Body.Len() > 0 {
		t.Errorf("status %d, %d bytes", answer.Code, answer.Body.Len())
	}
	if answer := get(t, h, "GET", path, "Range", "bytes=0-1", "If-Range", `"other"`); answer.Code != http.StatusOK {
		t.Errorf("a range of another version: status %d", answer.Code)
	}
}

func TestRecordings_AbsentFilesAndStrangeRows(t *testing.T) {
	w := newWorld()
	delete(w.files, recordingKey+".sigmf-data")
	h := w.handler(t)
	p := problem(t, get(t, h, "GET", "/api/v1/recordings/"+captureID+".sigmf-data"))
	if p.Status != http.StatusNotFound || p.Errors[0].Value != captureID {
		t.Errorf("problem %+v", p)
	}
	w.recordings.one = func(context.Context, string) (*protocol.Recording, error) {
		return &protocol.Recording{ID: "a\"b", Key: recordingKey, Stored: "some day", SHA512: "short"}, nil
	}
	answer := get(t, w.handler(t), "GET", "/api/v1/recordings/x.sigmf-meta")
	if answer.Code != http.StatusOK || answer.Header().Get("Last-Modified") != "" {
		t.Errorf("status %d, headers %v", answer.Code, answer.Header())
	}
	w.recordings.one = func(context.Context, string) (*protocol.Recording, error) { return nil, errors.New("broken") }
	for _, suffix := range []string{"", ".sigmf", ".sigmf-meta", ".sigmf-data"} {
		if answer := get(t, w.handler(t), "GET", "/api/v1/recordings/x"+suffix); answer.Code != http.StatusInternalServerError {
			t.Errorf("%q: status %d", suffix, answer.Code)
		}
	}
}

func TestRecordings_OneByItsID(t *testing.T) {
	answer := get(t, newWorld().handler(t), "GET", "/api/v1/recordings/"+captureID)
	if answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != "application/json" {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
}
