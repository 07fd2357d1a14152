package api

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// filePatience is how long a client may take to read one piece of a file.
const filePatience = 30 * time.Second

func (s *server) recording(w http.ResponseWriter, r *http.Request) error {
	recording, err := one(r.Context(), "recording", r.PathValue("id"), s.Recordings.Recording)
	if err != nil {
		return err
	}
	return send(w, r, http.StatusOK, recording)
}

func (s *server) recordingArchive(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, ".sigmf", tarType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenArchive(r.Context(), rec.Key)
	})
}

func (s *server) recordingMeta(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, ".sigmf-meta", jsonType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenMeta(r.Context(), rec.Key)
	})
}

func (s *server) recordingData(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, ".sigmf-data", bytesType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenData(r.Context(), rec.Key)
	})
}

// sendFile sends a recording's file or the ranges of it that were asked for.
func (s *server) sendFile(w http.ResponseWriter, r *http.Request, suffix, mediaType string, open func(*protocol.Recording) (io.ReadSeekCloser, error)) error {
	recording, err := one(r.Context(), "recording", r.PathValue("id"), s.Recordings.Recording)
	if err != nil {
		return err
	}
	file, err := open(recording)
	if err != nil {
		return absent(fmt.Errorf("open recording: %w", err), "file of recording", recording.ID)
	}
	defer func() { _ = file.Close() }() // it was only read
	stored, err := time.Parse(time.RFC3339Nano, recording.Stored)
	if err != nil {
		stored = time.Time{} // a row from elsewhere: then without Last-Modified
	}
	name := recording.Station + "_" + recording.ID + suffix
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", fmt.Sprintf(`"%.32s-%d%s"`, recording.SHA512, stored.Unix(), suffix))
	if err := stream(w, filePatience); err != nil {
		return err
	}
	http.ServeContent(&rangeWriter{ResponseWriter: w, request: r}, r, name, stored, file)
	return nil
}

// rangeWriter turns http.ServeContent's plain refusal of a range into a problem.
type rangeWriter struct {
	http.ResponseWriter
	request *http.Request
	refused bool
}

func (rw *rangeWriter) WriteHeader(status int) {
	if status != http.StatusRequestedRangeNotSatisfiable {
		rw.ResponseWriter.WriteHeader(status)
		return
	}
	rw.refused = true
	asked := rw.request.Header.Get("Range")
	writeProblem(rw.ResponseWriter, rw.request, wrongRange.with("the file is shorter, or the range is not written as bytes=FIRST-LAST",
		fieldError("Range", asked, "Content-Range says how long the file is")))
}

func (rw *rangeWriter) Write(p []byte) (int, error) {
	if rw.refused {
		return len(p), nil
	}
	return rw.ResponseWriter.Write(p)
}
