package radio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// Sample rates outside these are refused as absurd.
const (
	minRateHz = 100
	maxRateHz = 1e9
	maxHz     = 1e12 // of a centre
)

// recordedUncertainty is how far a time is trusted that a file states without saying how well it was known:
// the wall clock of a computer.
const recordedUncertainty = time.Second

// recording is a parsed file: where its samples are and what is known about them.
type recording struct {
	path     string
	data     *os.File // holds the samples
	format   dsp.Format
	rateHz   float64 // at the start, as best known
	centerHz float64 // at the start; NaN when unknown
	extents  []extent
	spans    []span
	stored   int64 // samples in the file
	oddTail  bool
	maskDC   bool
	quality  protocol.TimeQuality
	notes    []string
	sum      *checksum // of the data while it is played from its beginning; else nil

	firstStamp time.Time // of the first sample whose own stamp was accepted
	lastGlobal *uint64   // core:global_index of the last SigMF capture
}

// extent is a run of equal pieces of samples at equal distances: a whole raw file is one piece, a KiwiSDR recording
// one run of thousands.
type extent struct {
	first  int64 // byte number in the samples, as if they lay in one piece
	offset int64 // of the first piece in the file
	piece  int64 // bytes of samples a piece
	stride int64 // bytes from piece to piece
	count  int64
}

func (e extent) end() int64 { return e.first + e.piece*e.count }

// span is a run of stored samples under one description.
type span struct {
	first    int64 // sample number in the file, stored samples only
	samples  int64
	lost     int64 // samples lost before it
	exact    bool  // lost is a count
	segment  bool  // begins a new segment
	refused  bool  // the stamps of these samples were refused; their time is extrapolated
	rateHz   float64
	centerHz float64
	// line maps stored sample numbers plus the losses before this span to UTC.
	line        timeline
	shift       int64 // add to a stored sample number to use the line
	uncertainty time.Duration
	quality     protocol.TimeQuality
}

func (s *span) at(sample int64) time.Time { return s.line.at(sample + s.shift) }

func (r *recording) fault(field, value, mend string) error {
	return &Fault{"recording " + r.path, field, value, mend}
}

func (r *recording) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// openRecording finds out what a file is, by content first, then by name, and parses it. The caller closes it.
func openRecording(path string, over Options) (*recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable("recording "+path, err)
	}
	r := &recording{path: path, data: f, centerHz: math.NaN()}
	if err := r.parse(over); err != nil {
		return nil, errors.Join(err, r.data.Close())
	}
	return r, nil
}

func (r *recording) parse(over Options) error {
	info, err := r.data.Stat()
	if err != nil {
		return fmt.Errorf("open recording: %w", err)
	}
	if !info.Mode().IsRegular() {
		kind := "a device"
		if info.IsDir() {
			kind = "a folder"
		}
		return r.fault("file", kind, "not a plain file: name the recording itself")
	}
	if info.Size() == 0 {
		return r.fault("file", "0 bytes", "empty: record again")
	}
	head := make([]byte, 512)
	n, err := r.data.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	head = head[:n]
	name := strings.ToLower(r.path)
	switch {
	case isWAV(head):
		err = r.parseWAV(info, over)
	case strings.HasSuffix(name, ".sigmf-meta"), strings.HasSuffix(name, ".sigmf-data"):
		err = r.parseSigMFPair(over)
	case strings.HasSuffix(name, ".sigmf"):
		err = r.parseSigMFArchive(info, over)
	default:
		if err := r.refuseOther(name, head); err != nil {
			return err
		}
		err = r.parseRaw(info, over)
	}
	if err != nil {
		return err
	}
	return r.finish(over)
}

// refuseOther names files that are no raw samples although they could be read as such.
func (r *recording) refuseOther(name string, head []byte) error {
	ext := filepath.Ext(name)
	switch {
	case bytes.HasPrefix(head, []byte("RIFX")):
		return r.fault("byte order", "RIFX", "big-endian WAV: save as little-endian (RIFF)")
	case ext == ".wav":
		return r.fault("header", printable(head, 12), "not a WAV file, which begins with RIFF….WAVE: give format and rate if these are raw samples and rename it to .cs16 or the like")
	case ext == ".sigmf-collection":
		return r.fault("file", ext, "a collection lists recordings: open one of its .sigmf-meta files")
	case ext == ".gz", ext == ".zst", ext == ".xz", ext == ".bz2", ext == ".zip", ext == ".coco",
		extensions[ext] == dsp.FormatUnknown && compressed(head):
		return r.fault("file", ext, "compressed: unpack it first")
	}
	return nil
}

func compressed(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\x28\xb5\x2f\xfd", "\xfd7zXZ", "PK\x03\x04"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// printable is the start of a file for an error message.
func printable(b []byte, most int) string {
	if len(b) > most {
		b = b[:most]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '.'
		}
		return c
	}, string(b))
}

// parseRaw takes the whole file as samples; name and options say which.
func (r *recording) parseRaw(info os.FileInfo, over Options) error {
	facts := factsOfName(r.path)
	r.format = facts.format
	if over.Format != dsp.FormatUnknown {
		r.format = over.Format
	}
	if r.format == dsp.FormatUnknown {
		return r.fault("format", filepath.Ext(r.path), "the name does not say it: give it with format=cu8, cs8, cs16 or cf32 (measure: --format cu8)")
	}
	r.maskDC = true
	r.stateFacts(facts)
	if err := r.setRate(either(over.RateHz, facts.rateHz), "of the file name"); err != nil {
		return err
	}
	r.whole(0, info.Size())
	r.stateTime(facts.start)
	return nil
}

// stateFacts takes the centre from the name.
func (r *recording) stateFacts(facts nameFacts) {
	if facts.centerHz > 0 {
		r.centerHz = facts.centerHz
	}
}

// setRate checks and keeps a sample rate; 0 is "none stated".
func (r *recording) setRate(hz float64, origin string) error {
	if hz == 0 {
		return r.fault("sample rate", "", "neither the file nor its name says it: give it with rate=250k (measure: --rate 250k)")
	}
	if !(hz >= minRateHz && hz <= maxRateHz) {
		return r.fault("sample rate", formatHertz(hz), fmt.Sprintf("%s is absurd, want %s to %s: give the true one with rate=250k (measure: --rate 250k)",
			origin, formatHertz(minRateHz), formatHertz(maxRateHz)))
	}
	r.rateHz = hz
	return nil
}

// whole says that the samples are one piece of the file. What is no whole sample is the odd tail.
func (r *recording) whole(offset, size int64) {
	per := int64(r.format.BytesPerSample())
	r.stored = size / per
	r.oddTail = size%per != 0
	r.extents = []extent{{0, offset, r.stored * per, r.stored * per, 1}}
	r.spans = []span{{samples: r.stored, segment: true, rateHz: r.rateHz, centerHz: r.centerHz}}
}

// stateTime gives the samples the time that the file or its name states for the first one.
func (r *recording) stateTime(start time.Time) {
	r.quality = protocol.TimeQuality_TIME_QUALITY_UNSET
	if !start.IsZero() {
		r.quality = protocol.TimeQuality_TIME_QUALITY_RECORDED
	}
	for i := range r.spans {
		s := &r.spans[i]
		s.quality = r.quality
		s.line = timeline{time: start, periodNs: 1e9 / s.rateHz}
		s.uncertainty = recordedUncertainty
	}
}

// finish applies what the operator overrides and checks that there is something to read.
func (r *recording) finish(over Options) error {
	if r.stored == 0 {
		return r.fault("file", "", "holds no whole sample: record again")
	}
	if over.CenterHz != 0 {
		r.centerHz = over.CenterHz
	}
	for i := range r.spans {
		s := &r.spans[i]
		if over.CenterHz != 0 {
			s.centerHz = over.CenterHz
		}
		if over.RateHz != 0 && s.rateHz != over.RateHz {
			start := timeline{sample: s.first + s.shift, periodNs: 1e9 / over.RateHz}
			if s.line.known() {
				start.time = s.at(s.first)
			}
			s.rateHz, s.line = over.RateHz, start
		}
		if i == 0 {
			r.rateHz = s.rateHz
		}
	}
	return nil
}

// readSamples fills p with samples from a stored sample number on.
func (r *recording) readSamples(p []byte, sample int64) error {
	at := sample * int64(r.format.BytesPerSample())
	for len(p) > 0 {
		i := sort.Search(len(r.extents), func(i int) bool { return r.extents[i].end() > at })
		if i == len(r.extents) {
			return io.ErrUnexpectedEOF
		}
		e := r.extents[i]
		within := at - e.first
		n := min(int64(len(p)), e.piece-within%e.piece)
		offset := e.offset + within/e.piece*e.stride + within%e.piece
		if _, err := r.data.ReadAt(p[:n], offset); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the file got shorter since it was opened
			}
			return err
		}
		if err := r.sum.take(p[:n], offset); err != nil {
			return err
		}
		p, at = p[n:], at+n
	}
	return nil
}

// addPiece appends a piece of samples, as part of the last run when it continues it.
func (r *recording) addPiece(offset, size int64) {
	if size == 0 {
		return
	}
	end := int64(0)
	if n := len(r.extents); n > 0 {
		e := &r.extents[n-1]
		end = e.end()
		if e.piece == size && e.count == 1 && offset >= e.offset+size {
			e.stride = offset - e.offset
		}
		if e.piece == size && e.offset+e.count*e.stride == offset {
			e.count++
			return
		}
	}
	r.extents = append(r.extents, extent{end, offset, size, size, 1})
}
