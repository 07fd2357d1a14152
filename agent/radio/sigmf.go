package radio

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// maxSigMFMeta bounds a SigMF metadata file; a hundred thousand annotations fit.
const maxSigMFMeta = 64 << 20

// sigmfMeta is what playing a SigMF recording needs of its metadata.
type sigmfMeta struct {
	Global struct {
		Datatype      string   `json:"core:datatype"`
		SampleRate    *float64 `json:"core:sample_rate"`
		Channels      *int     `json:"core:num_channels"`
		Dataset       string   `json:"core:dataset"`
		MetadataOnly  bool     `json:"core:metadata_only"`
		TrailingBytes int64    `json:"core:trailing_bytes"`
	} `json:"global"`
	Captures []sigmfCapture `json:"captures"`
}

type sigmfCapture struct {
	SampleStart int64    `json:"core:sample_start"`
	GlobalIndex *int64   `json:"core:global_index"`
	HeaderBytes int64    `json:"core:header_bytes"`
	Frequency   *float64 `json:"core:frequency"`
	Datetime    string   `json:"core:datetime"`
}

// parseSigMFPair reads X.sigmf-meta and X.sigmf-data, whichever was named.
func (r *recording) parseSigMFPair(over Options) error {
	base := r.path[:len(r.path)-len(".sigmf-meta")]
	metaPath := base + ".sigmf-meta"
	text, err := readAllOf(metaPath)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return r.fault("metadata", metaPath, "missing: a SigMF recording is a .sigmf-meta and a .sigmf-data of one name")
	case err != nil:
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	meta, err := r.parseMeta(text)
	if err != nil {
		return err
	}
	dataPath := base + ".sigmf-data"
	if name := meta.Global.Dataset; name != "" {
		if name != filepath.Base(name) || name == ".." {
			return r.fault("core:dataset", name, "want the plain name of a file beside the metadata")
		}
		dataPath = filepath.Join(filepath.Dir(r.path), name)
	}
	data, err := os.Open(dataPath)
	if err != nil {
		return r.fault("data", dataPath, "missing: a SigMF recording is a .sigmf-meta and a .sigmf-data of one name")
	}
	if err := errors.Join(r.data.Close()); err != nil {
		return errors.Join(fmt.Errorf("read recording %s: %w", r.path, err), data.Close())
	}
	r.data = data
	info, err := data.Stat()
	if err != nil {
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	return r.describe(meta, 0, info.Size(), over)
}

func readAllOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSigMFMeta))
	return text, errors.Join(err, f.Close())
}

// parseSigMFArchive reads a .sigmf file: a POSIX tar of one pair.
func (r *recording) parseSigMFArchive(over Options) error {
	var meta sigmfMeta
	var found bool
	dataAt, dataSize := int64(-1), int64(0)
	archive := tar.NewReader(r.data)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r.fault("archive", err.Error(), "not a readable tar: a .sigmf file is a tar of a .sigmf-meta and a .sigmf-data")
		}
		switch {
		case h.Typeflag != tar.TypeReg:
		case strings.HasSuffix(h.Name, ".sigmf-meta") && !found:
			text, err := io.ReadAll(io.LimitReader(archive, maxSigMFMeta))
			if err != nil {
				return r.fault("archive", err.Error(), "cut off inside "+h.Name)
			}
			if meta, err = r.parseMeta(text); err != nil {
				return err
			}
			found = true
		case strings.HasSuffix(h.Name, ".sigmf-data") && dataAt < 0:
			if dataAt, err = r.data.Seek(0, io.SeekCurrent); err != nil {
				return fmt.Errorf("read recording %s: %w", r.path, err)
			}
			dataSize = h.Size
		}
		if found && dataAt >= 0 {
			break
		}
	}
	if !found || dataAt < 0 {
		return r.fault("archive", "", "holds no pair of .sigmf-meta and .sigmf-data")
	}
	info, err := r.data.Stat()
	if err != nil {
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	if left := info.Size() - dataAt; dataSize > left {
		r.note("the archive promises %d bytes of samples and holds %d: it was cut short", dataSize, left)
		dataSize = left
	}
	return r.describe(meta, dataAt, dataSize, over)
}

func (r *recording) parseMeta(text []byte) (sigmfMeta, error) {
	var meta sigmfMeta
	if err := json.Unmarshal(text, &meta); err != nil {
		return meta, r.fault("metadata", err.Error(), "not SigMF metadata: want a JSON object with global and captures")
	}
	g := &meta.Global
	switch {
	case g.MetadataOnly:
		return meta, r.fault("core:metadata_only", "true", "there are no samples: get the data file")
	case g.Datatype == "":
		return meta, r.fault("core:datatype", "", "missing: want cu8, ci8, ci16_le or cf32_le")
	case g.Channels != nil && *g.Channels != 1:
		return meta, r.fault("core:num_channels", fmt.Sprint(*g.Channels), "want 1: split the recording into one file a channel")
	case g.TrailingBytes < 0:
		return meta, r.fault("core:trailing_bytes", fmt.Sprint(g.TrailingBytes), "want 0 or more")
	}
	return meta, nil
}

// describe turns metadata into spans over the data that lies at an offset of the file.
func (r *recording) describe(meta sigmfMeta, offset, size int64, over Options) error {
	g := meta.Global
	r.format = over.Format
	if r.format == dsp.FormatUnknown {
		f, err := dsp.ParseFormat(g.Datatype)
		if err != nil || f.SigMF() != g.Datatype {
			return r.fault("core:datatype", g.Datatype, "not read by this version: want cu8, ci8, ci16_le or cf32_le; convert the recording")
		}
		r.format = f
	}
	rate := over.RateHz
	if rate == 0 && g.SampleRate != nil {
		if rate = *g.SampleRate; rate == 0 {
			return r.fault("core:sample_rate", "0", "absurd: give the true one with rate=250k (measure: --rate 250k)")
		}
	}
	if err := r.setRate(rate, "of core:sample_rate"); err != nil {
		return err
	}
	if len(meta.Captures) == 0 {
		meta.Captures = []sigmfCapture{{}}
	}
	return r.layCaptures(meta.Captures, offset, max(0, size-g.TrailingBytes))
}

// layCaptures finds each capture's bytes and makes its span.
func (r *recording) layCaptures(captures []sigmfCapture, offset, size int64) error {
	per := int64(r.format.BytesPerSample())
	at := offset // of the file, behind what was taken
	left := size
	for i, c := range captures {
		where := fmt.Sprintf("captures[%d] core:", i)
		switch {
		case c.HeaderBytes < 0 || c.HeaderBytes > left:
			return r.fault(where+"header_bytes", fmt.Sprint(c.HeaderBytes), fmt.Sprintf("the file holds %d bytes there", left))
		case i > 0 && c.SampleStart < captures[i-1].SampleStart, c.SampleStart < 0:
			return r.fault(where+"sample_start", fmt.Sprint(c.SampleStart), "captures must be sorted, from 0 on")
		case c.Frequency != nil && math.Abs(*c.Frequency) > maxHz:
			return r.fault(where+"frequency", fmt.Sprint(*c.Frequency), "absurd, want Hz")
		}
		if i == 0 && c.SampleStart > 0 { // samples before the first capture are described by nothing
			skip := c.SampleStart * per
			if skip > left {
				return r.fault(where+"sample_start", fmt.Sprint(c.SampleStart), fmt.Sprintf("the data file holds %d samples", left/per))
			}
			at, left = at+skip, left-skip
		}
		at, left = at+c.HeaderBytes, left-c.HeaderBytes
		samples := left / per
		if i+1 < len(captures) {
			next := captures[i+1].SampleStart - c.SampleStart
			if next > samples {
				return r.fault(fmt.Sprintf("captures[%d] core:sample_start", i+1), fmt.Sprint(captures[i+1].SampleStart),
					fmt.Sprintf("the data file ends at sample %d: it was cut short", c.SampleStart+samples))
			}
			samples = next
		} else {
			r.oddTail = left%per != 0
		}
		if err := r.addCapture(c, where, samples); err != nil {
			return err
		}
		r.addPiece(at, samples*per)
		at, left = at+samples*per, left-samples*per
		r.stored += samples
	}
	if len(r.spans) > 0 {
		r.spans[0].lost, r.spans[0].exact = 0, true
		r.centerHz, r.quality = r.spans[0].centerHz, r.spans[0].quality
	}
	return nil
}

// addCapture makes the span of one capture. What lies between it and the one before is known exactly from the
// global indexes, or estimated from the times.
func (r *recording) addCapture(c sigmfCapture, where string, samples int64) error {
	if samples == 0 {
		return nil
	}
	s := span{
		first: r.stored, samples: samples, segment: true, rateHz: r.rateHz, centerHz: math.NaN(),
		quality: protocol.TimeQuality_TIME_QUALITY_UNSET, uncertainty: recordedUncertainty,
	}
	if c.Frequency != nil {
		s.centerHz = *c.Frequency
	}
	s.line = timeline{sample: r.stored, periodNs: 1e9 / r.rateHz}
	if c.Datetime != "" {
		t, err := time.Parse(time.RFC3339Nano, c.Datetime)
		if err != nil {
			return r.fault(where+"datetime", c.Datetime, "want UTC such as 2026-11-24T02:00:00.000000000Z")
		}
		s.line.time, s.quality = t.UTC(), protocol.TimeQuality_TIME_QUALITY_RECORDED
	}
	if n := len(r.spans); n > 0 {
		before := &r.spans[n-1]
		switch {
		case c.GlobalIndex != nil && r.lastGlobal != nil:
			s.lost = max(0, *c.GlobalIndex-*r.lastGlobal-before.samples)
			s.exact = true
			s.segment = c.Datetime != "" || !sameHz(s.centerHz, before.centerHz)
			if !s.segment {
				s.line, s.shift, s.quality = before.line, before.shift+s.lost, before.quality
			}
		case s.line.known() && before.line.known():
			gap := s.line.time.Sub(before.at(before.first + before.samples))
			s.lost = max(0, int64(math.Round(gap.Seconds()*r.rateHz)))
		}
	}
	r.lastGlobal = c.GlobalIndex
	r.spans = append(r.spans, s)
	return nil
}

func sameHz(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
