package radio

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// parseSigMFPair reads X.sigmf-meta and X.sigmf-data, whichever was named.
func (r *recording) parseSigMFPair(over Options) error {
	base := r.path[:len(r.path)-len(protocol.SigMFMetaExt)]
	metaPath := base + protocol.SigMFMetaExt
	text, err := readMeta(metaPath)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return r.fault("metadata", metaPath, "missing: a SigMF recording is a .sigmf-meta and a .sigmf-data of one name")
	case err != nil:
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	meta, err := protocol.DecodeSigMF(text)
	if err != nil {
		return r.sigmfFault(err)
	}
	dataPath := base + protocol.SigMFDataExt
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
	if err := r.data.Close(); err != nil {
		return errors.Join(fmt.Errorf("read recording %s: %w", r.path, err), data.Close())
	}
	r.data = data
	info, err := data.Stat()
	if err != nil {
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	return r.describe(meta, 0, info.Size(), over)
}

func readMeta(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, protocol.MaxSigMFBytes))
	return text, errors.Join(err, f.Close())
}

// parseSigMFArchive plays the first recording of a .sigmf archive.
func (r *recording) parseSigMFArchive(info os.FileInfo, over Options) error {
	all, err := protocol.ReadSigMFArchive(r.data, info.Size())
	if err != nil {
		return r.sigmfFault(err)
	}
	first := all[0]
	if first.Data == nil {
		return r.fault("archive", first.Name, "holds no samples for this metadata")
	}
	if len(all) > 1 {
		r.note("the archive holds %d recordings; %s is played: unpack it for the others", len(all), first.Name)
	}
	_, offset, size := first.Data.Outer()
	return r.describe(first.Meta, offset, size, over)
}

// sigmfFault says the same with the recording's name.
func (r *recording) sigmfFault(err error) error {
	if many, ok := errors.AsType[protocol.FieldErrors](err); ok {
		var all []error
		for _, e := range many {
			all = append(all, r.fault(e.Field, unquoted(e.Value), e.Message))
		}
		return errors.Join(all...)
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		field := e.Field
		if field == "" {
			field = "metadata"
		}
		return r.fault(field, unquoted(e.Value), e.Message)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return r.fault("archive", "", "cut off in its middle: get it again")
	}
	return fmt.Errorf("read recording %s: %w", r.path, err)
}

func unquoted(s string) string {
	if plain, err := strconv.Unquote(s); err == nil {
		return plain
	}
	return s
}

// describe turns metadata into spans over the data that lies at an offset of the file.
func (r *recording) describe(meta *protocol.SigMF, offset, size int64, over Options) error {
	g := &meta.Global
	switch {
	case g.MetadataOnly != nil && *g.MetadataOnly:
		return r.fault("core:metadata_only", "true", "there are no samples: get the data file")
	case g.Datatype == "" && over.Format == dsp.FormatUnknown:
		return r.fault("core:datatype", "", "missing: want cu8, ci8, ci16_le or cf32_le")
	case g.NumChannels != nil && *g.NumChannels != 1:
		return r.fault("core:num_channels", fmt.Sprint(*g.NumChannels), "want 1: split the recording into one file a channel")
	}
	r.format = over.Format
	if r.format == dsp.FormatUnknown {
		f, err := dsp.ParseFormat(g.Datatype)
		if err != nil || f.SigMF() != g.Datatype {
			return r.fault("core:datatype", g.Datatype, "not read by this version: want cu8, ci8, ci16_le or cf32_le; convert the recording")
		}
		r.format = f
	}
	rate := over.RateHz
	if rate == 0 && g.SampleRateHz != nil {
		if rate = *g.SampleRateHz; rate == 0 {
			return r.fault("core:sample_rate", "0", "absurd: give the true one with rate=250k (measure: --rate 250k)")
		}
	}
	if err := r.setRate(rate, "of core:sample_rate"); err != nil {
		return err
	}
	if g.Scale != nil && *g.Scale > 0 && *g.Scale != 1 {
		gain, side := -20*math.Log10(*g.Scale), "above"
		if gain < 0 {
			side = "below"
		}
		r.note("levels read %.1f dB %s those of the receiver it was cut from", math.Abs(gain), side)
	}
	r.sum = newChecksum(g.SHA512, r.data, offset, size)
	if g.TrailingBytes != nil {
		size -= int64(min(*g.TrailingBytes, uint64(size)))
	}
	captures := meta.Captures
	if len(captures) == 0 {
		captures = make([]protocol.SigMFCapture, 1)
	}
	return r.layCaptures(captures, g.SigMFStation, offset, size)
}

// layCaptures finds each capture's bytes and makes its span.
func (r *recording) layCaptures(captures []protocol.SigMFCapture, from protocol.SigMFStation, offset, size int64) error {
	per := int64(r.format.BytesPerSample())
	at, left := offset, size // what was not yet taken of the file
	for i, c := range captures {
		header := uint64(0)
		if c.HeaderBytes != nil {
			header = *c.HeaderBytes
		}
		where := fmt.Sprintf("captures[%d].core:", i)
		switch {
		case header > uint64(left):
			return r.fault(where+"header_bytes", fmt.Sprint(header), fmt.Sprintf("the file holds %d bytes there", left))
		case i > 0 && c.SampleStart < captures[i-1].SampleStart:
			return r.fault(where+"sample_start", fmt.Sprint(c.SampleStart), "below that of the capture before: sort the captures")
		case c.FrequencyHz != nil && !(math.Abs(*c.FrequencyHz) <= maxHz):
			return r.fault(where+"frequency", fmt.Sprint(*c.FrequencyHz), "absurd, want Hz")
		}
		if i == 0 { // samples before the first capture are described by nothing
			if c.SampleStart > uint64(left/per) {
				return r.fault(where+"sample_start", fmt.Sprint(c.SampleStart), fmt.Sprintf("the data file holds %d samples", left/per))
			}
			skip := int64(c.SampleStart) * per
			at, left = at+skip, left-skip
		}
		at, left = at+int64(header), left-int64(header)
		samples := left / per
		if i+1 < len(captures) {
			next := captures[i+1].SampleStart
			if wanted := next - c.SampleStart; next > c.SampleStart && wanted > uint64(samples) {
				return r.fault(fmt.Sprintf("captures[%d].core:sample_start", i+1), fmt.Sprint(next),
					fmt.Sprintf("the data file ends at sample %d: it was cut short", c.SampleStart+uint64(samples)))
			}
			samples = int64(max(next, c.SampleStart) - c.SampleStart)
		} else {
			r.oddTail = left%per != 0
		}
		r.addCapture(c, from, samples)
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
func (r *recording) addCapture(c protocol.SigMFCapture, from protocol.SigMFStation, samples int64) {
	if samples == 0 {
		return
	}
	s := span{
		first: r.stored, samples: samples, segment: true, rateHz: r.rateHz, centerHz: math.NaN(),
		quality: protocol.TimeQuality_TIME_QUALITY_UNSET, uncertainty: recordedUncertainty,
	}
	if c.FrequencyHz != nil {
		s.centerHz = *c.FrequencyHz
	}
	s.line = timeline{sample: r.stored, periodNs: 1e9 / r.rateHz}
	if c.Datetime != nil && !c.Datetime.IsZero() {
		s.line.time, s.quality = c.Datetime.UTC(), protocol.TimeQuality_TIME_QUALITY_RECORDED
		if q, err := protocol.ParseTimeQuality(from.TimeQuality); err == nil && from.TimeUncertaintyS != nil {
			s.quality = q // our own recordings say how well their times are known
			s.uncertainty = time.Duration(math.Min(math.Max(*from.TimeUncertaintyS, 0), 1e9) * 1e9)
		}
	}
	if n := len(r.spans); n > 0 {
		r.follow(&s, &r.spans[n-1], c)
	}
	r.lastGlobal = c.GlobalIndex
	r.spans = append(r.spans, s)
}

// follow says how a capture goes on from the one before it.
func (r *recording) follow(s, before *span, c protocol.SigMFCapture) {
	switch {
	case c.GlobalIndex != nil && r.lastGlobal != nil:
		expected := *r.lastGlobal + uint64(before.samples)
		s.lost = int64(min(max(*c.GlobalIndex, expected)-expected, maxLost))
		s.exact = c.LostExact == nil || *c.LostExact
		s.segment = !s.exact || c.Datetime != nil || !sameHz(s.centerHz, before.centerHz)
		if !s.segment {
			s.line, s.shift, s.quality, s.uncertainty = before.line, before.shift+s.lost, before.quality, before.uncertainty
		}
	case s.line.known() && before.line.known():
		gap := s.line.time.Sub(before.at(before.first + before.samples))
		s.lost = int64(min(max(0, math.Round(gap.Seconds()*r.rateHz)), maxLost))
	}
}

// maxLost bounds what a file may claim to have lost, so that sums stay in range.
const maxLost = 1 << 50

func sameHz(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
