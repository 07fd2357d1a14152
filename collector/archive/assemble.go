package archive

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path"
	"time"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	recordingsPrefix = "recordings/"
	dataSuffix       = protocol.SigMFDataExt
	metaSuffix       = protocol.SigMFMetaExt
	dataType         = "application/octet-stream"
	metaType         = "application/json"
	longestName      = 128 // characters of an id in a key
)

// assemble writes one recording, or records why it can never be written. Its error is a temporary fault.
func (a *Archive) assemble(ctx context.Context, c *Capture) error {
	recording, err := a.write(ctx, c)
	if err == nil {
		err = a.announce(ctx, recording)
	}
	id := c.Reply.GetCapture().GetId()
	var rejected *rejection
	switch {
	case errors.As(err, &rejected):
		a.log.WarnContext(ctx, "capture cannot become a recording", "station", c.Station, "capture", id, "reason", rejected.reason)
		if err := a.source.FailRecording(ctx, *c, rejected.reason); err != nil {
			return fmt.Errorf("record that capture %.40q of %s is bad: %w", id, c.Station, err)
		}
		a.count(func(s *Stats) { s.FailedTotal++ })
		return nil
	case err != nil:
		return fmt.Errorf("capture %.40q of %s: %w", id, c.Station, err)
	}
	a.count(func(s *Stats) {
		s.RecordingsTotal++
		s.BytesTotal += recording.Bytes
	})
	a.log.InfoContext(ctx, "recording written", "station", recording.Station, "capture", recording.ID, "key", recording.Key,
		"bytes", recording.Bytes)
	return nil
}

// announce tells the source of a recording. A row that the source could never store is a rejection.
func (a *Archive) announce(ctx context.Context, r *protocol.Recording) error {
	err := a.source.FinishRecording(ctx, r)
	var own interface{ OneRecord() bool } // as a database says that the row is at fault, not the database
	if errors.As(err, &own) && own.OneRecord() {
		return reject("its row cannot be stored: %v", err)
	}
	if err != nil {
		return fmt.Errorf("announce recording: %w", err)
	}
	return nil
}

func (a *Archive) count(change func(*Stats)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.stats)
}

// write stores the samples, proves them, and stores the metadata last.
func (a *Archive) write(ctx context.Context, c *Capture) (*protocol.Recording, error) {
	if err := checkCapture(c); err != nil {
		return nil, err
	}
	manifest := c.Reply.GetCapture()
	recording := describe(c, a.now())
	meta, err := metadata(c)
	if err != nil {
		return nil, err
	}
	data := newSamples(ctx, a.source, c.Station, manifest)
	if err := a.objects.put(ctx, recording.Key+dataSuffix, dataType, int64(manifest.GetBytes()), data); err != nil {
		return nil, fmt.Errorf("store samples: %w", err)
	}
	failpoint.Hit("archive.samples")
	if err := a.objects.put(ctx, recording.Key+metaSuffix, metaType, int64(len(meta)), bytes.NewReader(meta)); err != nil {
		return nil, fmt.Errorf("store metadata: %w", err)
	}
	failpoint.Hit("archive.stored")
	return recording, nil
}

// checkCapture refuses a manifest that no recording can be made of. Everything in it comes from outside.
func checkCapture(c *Capture) error {
	m := c.Reply.GetCapture()
	if err := protocol.ValidStation(c.Station); err != nil {
		return reject("station: %v", err)
	}
	if m == nil {
		return reject("its reply has no manifest")
	}
	if !safeName(m.GetId()) {
		return reject("capture id %.40q: up to %d letters, digits, dots, dashes and underlines, not starting with a dot", m.GetId(), longestName)
	}
	if name := c.Reply.GetAcquisition(); name != "" && !safeName(name) {
		return reject("acquisition %.40q: up to %d letters, digits, dots, dashes and underlines, not starting with a dot", name, longestName)
	}
	width := sampleBytes(m.GetFormat())
	switch {
	case width == 0:
		return reject("format %.40q: cu8, ci8, ci16_le or cf32_le", m.GetFormat())
	case m.GetChunks() == 0:
		return reject("chunks: 0: a recording has at least one")
	case m.GetBytes() == 0 || m.GetBytes() > math.MaxInt64 || m.GetBytes()%width != 0:
		return reject("bytes: %d: a positive multiple of the %d bytes of a %s sample", m.GetBytes(), width, m.GetFormat())
	case m.Samples != nil && m.GetSamples() != m.GetBytes()/width:
		return reject("samples: %d: %d bytes of %s are %d", m.GetSamples(), m.GetBytes(), m.GetFormat(), m.GetBytes()/width)
	case len(m.GetSha512()) != sha512.Size:
		return reject("sha512: %d bytes: it has %d", len(m.GetSha512()), sha512.Size)
	case !(m.GetSampleRateHz() > 0) || math.IsInf(m.GetSampleRateHz(), 0):
		return reject("sample_rate_hz: %v: a number above 0", m.GetSampleRateHz())
	case m.CenterHz == nil || math.IsNaN(m.GetCenterHz()) || math.IsInf(m.GetCenterHz(), 0):
		return reject("center_hz: %v: a frequency in Hz", m.GetCenterHz())
	case m.Start == nil:
		return reject("start: absent: the time of the first sample")
	}
	return checkGaps(m, m.GetBytes()/width)
}

// checkGaps refuses gaps that are out of order or outside the samples.
func checkGaps(m *protocol.CaptureManifest, count uint64) error {
	last, lost := uint64(0), uint64(0)
	for i, gap := range m.GetGaps() {
		if gap.GetSample() < last || gap.GetSample() > count {
			return reject("gaps[%d].sample: %d: in rising order and within the %d samples", i, gap.GetSample(), count)
		}
		last = gap.GetSample()
		if lost += gap.GetLost(); lost < gap.GetLost() || lost > math.MaxInt64 {
			return reject("gaps[%d].lost: %d: more than can be counted", i, gap.GetLost())
		}
	}
	return nil
}

// safeName tells whether an id from outside can be one step of an object's name.
func safeName(s string) bool {
	if s == "" || len(s) > longestName || s[0] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// sampleBytes is the size of one complex sample, 0 for a format that is not written.
func sampleBytes(format string) uint64 {
	switch format {
	case "cu8", "ci8":
		return 2
	case "ci16_le":
		return 4
	case "cf32_le":
		return 8
	}
	return 0
}

// describe makes the recording's row of a checked capture.
func describe(c *Capture, now time.Time) *protocol.Recording {
	m := c.Reply.GetCapture()
	start := time.Unix(0, m.GetStart()).UTC()
	folder := c.Reply.GetAcquisition()
	if folder == "" {
		folder = start.Format(time.DateOnly)
	}
	r := &protocol.Recording{
		ID:               m.GetId(),
		Acquisition:      c.Reply.GetAcquisition(),
		Station:          c.Station,
		Receiver:         m.GetReceiver(),
		Start:            wireTime(m.GetStart()),
		DurationS:        m.GetDurationS(),
		CenterHz:         m.GetCenterHz(),
		SampleRateHz:     m.GetSampleRateHz(),
		Datatype:         m.GetFormat(),
		Samples:          m.GetBytes() / sampleBytes(m.GetFormat()),
		Bytes:            m.GetBytes(),
		SHA512:           hex.EncodeToString(m.GetSha512()),
		TimeQuality:      timeQuality(m.GetTimeQuality()),
		TimeUncertaintyS: m.GetTimeUncertaintyS(),
		Key:              recordingsPrefix + path.Join(folder, c.Station, m.GetId()),
		Stored:           protocol.FormatTime(now),
	}
	if m.AskedStart != nil {
		r.AskedStart = wireTime(m.GetAskedStart())
	}
	for _, gap := range m.GetGaps() {
		r.LostSamples += gap.GetLost()
	}
	if m.DurationS == nil {
		r.DurationS = float64(r.Samples+r.LostSamples) / r.SampleRateHz
	}
	return r
}
