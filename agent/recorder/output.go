package recorder

import (
	"context"
	"crypto/sha512"
	"fmt"
	"hash"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// chunkBytes is the most data a chunk carries.
	chunkBytes = 32 << 10
	// chunksAPut is how many chunks are queued before the disk is waited for: at most 1 MiB is on its way.
	chunksAPut = 32
	// maxGaps keeps a manifest well under the 128 KiB of a message.
	maxGaps = 1000
)

// output collects a capture's samples: it cuts them into chunks, hashes and measures them, and writes the manifest.
type output struct {
	run   *run
	meter Meter // nil: none

	id      string
	width   int // bytes a sample
	sum     hash.Hash
	chunk   []byte // being filled; nil when empty
	began   time.Time
	samples uint64
	chunks  uint32

	gaps        []*protocol.CaptureGap
	quality     protocol.TimeQuality // the worst
	uncertainty time.Duration        // the largest
	clipped     int
}

func newOutput(r *run, f *frame) (*output, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("capture id: %w", err)
	}
	o := &output{run: r, id: id.String(), width: f.format.BytesPerSample(), sum: sha512.New()}
	if r.set.NewMeter == nil {
		return o, nil
	}
	info := r.job.info
	// A channel beside the receiver's centre has no spike at its own.
	info.MaskDC = info.MaskDC && f.centerHz == f.tuning.CenterHz
	if o.meter, err = r.set.NewMeter(r.job.receiver.ID, info); err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	if b := r.job.bandwidthHz; b > 0 {
		if err := o.meter.Channel(b); err != nil {
			return nil, fmt.Errorf("measure: %w", err)
		}
	}
	if err := o.meter.Expect(radio.SamplesDuration(float64(f.count), f.rateHz)); err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	return o, nil
}

// source takes notice of the receiver's own samples: how well their time is known, and the noise around a channel.
func (o *output) source(b *radio.Block) {
	if o.meter != nil && o.run.job.bandwidthHz > 0 {
		o.meter.Passband(b)
	}
	o.quality = max(o.quality, b.TimeQuality)
	o.uncertainty = max(o.uncertainty, b.TimeUncertainty)
}

// gap notes samples lost before the next one, whose time is at.
func (o *output) gap(lost uint64, exact bool, at time.Time) error {
	if len(o.gaps) == maxGaps {
		return refuse(ReasonNoSamples, "the receiver loses too many samples: more than %d gaps", maxGaps)
	}
	o.gaps = append(o.gaps, &protocol.CaptureGap{
		Sample: proto.Uint64(o.samples), Lost: proto.Uint64(lost), Time: proto.Int64(at.UnixNano()), Exact: proto.Bool(exact),
	})
	return nil
}

// write adds samples. raw holds them in the capture's format; measured is the same as the meter sees them.
func (o *output) write(ctx context.Context, raw []byte, at time.Time, rateHz float64, measured *radio.Block) error {
	if o.meter != nil {
		o.meter.Write(measured)
	}
	for done := 0; len(raw) > 0; {
		if len(o.chunk) == 0 {
			o.began = at.Add(radio.SamplesDuration(float64(done), rateHz))
		}
		if o.chunk == nil && o.run.job.iq {
			o.chunk = make([]byte, 0, o.chunkSize())
		}
		n := min(len(raw), o.chunkSize()-len(o.chunk))
		if o.run.job.iq {
			o.chunk = append(o.chunk, raw[:n]...)
		}
		raw = raw[n:]
		done += n / o.width
		o.samples += uint64(n / o.width)
		if len(o.chunk) == o.chunkSize() {
			if err := o.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkSize is chunkBytes, less what would be part of a sample.
func (o *output) chunkSize() int { return chunkBytes / o.width * o.width }

// flush hands the chunk over.
func (o *output) flush(ctx context.Context) error {
	if len(o.chunk) == 0 {
		return nil
	}
	o.sum.Write(o.chunk) // a hash never fails
	n := len(o.chunk) / o.width
	rec := &protocol.Record{
		Time:             proto.Int64(o.began.UnixNano()),
		Receiver:         proto.String(o.run.job.receiver.ID),
		TimeQuality:      o.quality.Enum(),
		TimeUncertaintyS: proto.Float64(o.uncertainty.Seconds()),
		Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{
			CaptureId:   proto.String(o.id),
			Index:       proto.Uint32(o.chunks),
			FirstSample: proto.Uint64(o.samples - uint64(n)),
			Samples:     proto.Uint32(uint32(n)),
			Data:        o.chunk,
		}},
	}
	o.chunk = nil // the sink may keep it
	o.chunks++
	hand := o.run.set.Sink.Queue
	if o.chunks%chunksAPut == 0 {
		hand = o.run.set.Sink.Put
	}
	if err := o.run.work.aside(ctx, func() error { return hand(ctx, rec) }); err != nil {
		return fmt.Errorf("chunk %d of capture %s: %w", o.chunks-1, o.id, err)
	}
	return nil
}

// manifest describes the capture after its last flush.
func (o *output) manifest(f *frame, span uint64) *protocol.CaptureManifest {
	j, r := o.run.job, o.run
	m := &protocol.CaptureManifest{
		Id:               proto.String(o.id),
		Start:            proto.Int64(f.start.UnixNano()),
		AskedStart:       r.order.Start,
		DurationS:        proto.Float64(float64(span) / f.rateHz),
		CenterHz:         proto.Float64(f.centerHz),
		SampleRateHz:     proto.Float64(f.rateHz),
		Format:           proto.String(f.format.SigMF()),
		Gaps:             o.gaps,
		Samples:          proto.Uint64(o.samples),
		TimeQuality:      o.quality.Enum(),
		TimeUncertaintyS: proto.Float64(o.uncertainty.Seconds()),
		Receiver:         proto.String(j.receiver.ID),
		Recorder:         proto.String(r.set.Recorder),
		Hardware:         proto.String(protocol.CleanText(j.info.Hardware, protocol.MaxTextBytes)),
		Tuning: &protocol.Tuning{
			CenterHz: proto.Float64(f.tuning.CenterHz), SampleRateHz: proto.Float64(f.tuning.SampleRateHz),
		},
	}
	if !math.IsNaN(f.tuning.GainDB) {
		m.Tuning.GainDb = proto.Float64(f.tuning.GainDB)
	}
	if f.scale != 0 {
		m.Scale = proto.Float64(f.scale)
	}
	if j.iq {
		m.Chunks = proto.Uint32(o.chunks)
		m.Bytes = proto.Uint64(o.samples * uint64(o.width))
		m.Sha512 = o.sum.Sum(nil)
	}
	if o.meter != nil {
		m.Measurement = o.meter.Measurement()
		if m.Measurement != nil && o.clipped > 0 && !slices.Contains(m.Measurement.Flags, protocol.Flag_FLAG_CLIPPED) {
			m.Measurement.Flags = append(m.Measurement.Flags, protocol.Flag_FLAG_CLIPPED)
		}
	}
	return m
}
