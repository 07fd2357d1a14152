package api

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// filePatience is how long a client may take to read one piece of a file.
const filePatience = 30 * time.Second

// What the names of a recording's files end in.
const (
	dataSuffix = ".sigmf-data"
	metaSuffix = ".sigmf-meta"
)

func (s *server) recording(w http.ResponseWriter, r *http.Request) error {
	recording, err := s.recordingSeen(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return sendKnown(w, r, recording)
}

func (s *server) recordingArchive(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, ".sigmf", tarType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenArchive(r.Context(), rec.Key, fileName(rec))
	})
}

func (s *server) recordingMeta(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, metaSuffix, jsonType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenMeta(r.Context(), rec.Key)
	})
}

func (s *server) recordingData(w http.ResponseWriter, r *http.Request) error {
	return s.sendFile(w, r, dataSuffix, bytesType, func(rec *protocol.Recording) (io.ReadSeekCloser, error) {
		return s.Files.OpenData(r.Context(), rec.Key)
	})
}

// fileName is what a recording's files are called outside, and inside its archive, without extension.
func fileName(rec *protocol.Recording) string { return rec.Station + "_" + rec.ID }

// sendFile sends a recording's file or the ranges of it that were asked for.
func (s *server) sendFile(w http.ResponseWriter, r *http.Request, suffix, mediaType string, open func(*protocol.Recording) (io.ReadSeekCloser, error)) error {
	recording, err := s.recordingSeen(r.Context(), r.PathValue("id"))
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
	name := fileName(recording) + suffix
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Cache-Control", revalidate)
	tagFile(h, recording, suffix)
	if err := stream(w, filePatience); err != nil {
		return err
	}
	asked := r.Clone(r.Context())
	readRange(asked.Header)
	out := &rangeWriter{ResponseWriter: w, request: r}
	if suffix != metaSuffix && r.Method != http.MethodHead {
		out.begin = func() error {
			return s.note(r, actDownload, recording.ID, downloaded(recording, suffix, asked.Header.Get("Range")))
		}
	}
	http.ServeContent(out, asked, name, stored, file)
	return out.failure
}

// downloaded is what the audit says of samples that leave.
func downloaded(recording *protocol.Recording, suffix, ranges string) map[string]any {
	detail := map[string]any{"station": recording.Station, "file": strings.TrimPrefix(suffix, ".")}
	if ranges != "" {
		detail["range"] = printable(ranges)
	}
	return detail
}

// tagFile names the version of a file, which never changes: samples by their own hash, so that a client can check them, what is
// made of them by that hash and its kind.
func tagFile(h http.Header, recording *protocol.Recording, suffix string) {
	sum, err := hex.DecodeString(recording.SHA512)
	if err != nil || len(sum) != sha512.Size {
		return // a row from elsewhere: then without
	}
	if suffix == dataSuffix {
		h.Set("ETag", `"`+recording.SHA512+`"`)
		h.Set("Repr-Digest", "sha-512=:"+base64.StdEncoding.EncodeToString(sum)+":") // RFC 9530
		return
	}
	made := sha256.Sum256([]byte(recording.ID + "\n" + recording.Stored + "\n" + recording.SHA512))
	h.Set("ETag", `"`+hex.EncodeToString(made[:16])+suffix+`"`)
}

// byteRanges is how ranges of bytes are written: bytes=FIRST-LAST, FIRST- or -LENGTH, several with commas between; items may
// be empty. [RFC 9110, 14.1.2]
var byteRanges = regexp.MustCompile(`^(?i:bytes)=[ \t]*(?:(?:\d+-\d*|-\d+)?[ \t]*(?:,[ \t]*|$))+$`)

// longNumber is one that is beyond the end of every file, and that http.ServeContent cannot read.
var longNumber = regexp.MustCompile(`\d{19,}`)

// readRange leaves out a Range in another unit, and one that is no range: both are to be answered as if they were not there.
// [RFC 9110, 14.2]
func readRange(h http.Header) {
	given := h.Get("Range")
	if !byteRanges.MatchString(given) {
		h.Del("Range")
		return
	}
	ranges := longNumber.ReplaceAllStringFunc(given[len("bytes="):], func(number string) string {
		if number = strings.TrimLeft(number, "0"); len(number) < 19 {
			return "0" + number
		}
		return strconv.FormatInt(math.MaxInt64, 10)
	})
	for one := range strings.SplitSeq(ranges, ",") {
		first, last, _ := strings.Cut(strings.TrimSpace(one), "-")
		from, errFrom := strconv.ParseInt(first, 10, 64)
		to, errTo := strconv.ParseInt(last, 10, 64)
		if errFrom == nil && errTo == nil && from > to {
			h.Del("Range")
			return
		}
	}
	h.Set("Range", "bytes="+ranges)
}

// rangeWriter turns http.ServeContent's plain refusals into problems.
type rangeWriter struct {
	http.ResponseWriter
	request *http.Request
	refused bool
	// begin is asked before anything of the file is sent; its failure sends nothing.
	begin   func() error
	failure error
}

func (rw *rangeWriter) WriteHeader(status int) {
	h := rw.request.Header
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		rw.refuse(wrongRange.with("the file ends before the range begins",
			fieldError("Range", h.Get("Range"), "ask for bytes inside the file; Content-Range says how long it is")))
	case http.StatusPreconditionFailed:
		fault := fieldError("If-Match", h.Get("If-Match"), "the ETag of the file is another")
		if h.Get("If-Match") == "" {
			fault = fieldError("If-Unmodified-Since", h.Get("If-Unmodified-Since"), "the file is newer")
		}
		rw.refuse(changed.with("the file is another than the one that the request is about", fault))
	case http.StatusOK, http.StatusPartialContent:
		if rw.begin != nil {
			if rw.failure = rw.begin(); rw.failure != nil {
				rw.refused = true
				return
			}
		}
		rw.ResponseWriter.WriteHeader(status)
	default:
		rw.ResponseWriter.WriteHeader(status)
	}
}

func (rw *rangeWriter) refuse(p *problemError) {
	rw.refused = true
	writeProblem(rw.ResponseWriter, rw.request, p)
}

func (rw *rangeWriter) Write(p []byte) (int, error) {
	if rw.failure != nil {
		return 0, rw.failure
	}
	if rw.refused {
		return len(p), nil
	}
	return rw.ResponseWriter.Write(p)
}
