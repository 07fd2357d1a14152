package store

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// table is where the records of one kind are kept.
type table struct {
	name   string
	fields []field
	// begin gives a record that is being read an empty body.
	begin func(rec *protocol.Record)
	// low and high are SQL for the edges of a record's band in Hz; empty when the kind has none.
	low, high string
	// listed tells whether [DB.Records] may show the kind.
	listed bool
}

// tables makes the table of each kind.
func tables() map[protocol.Kind]*table {
	t := map[protocol.Kind]*table{
		protocol.KindMeasurement: measurementTable(),
		protocol.KindSpectrum:    spectrumTable(),
		protocol.KindDetection:   detectionTable(),
		protocol.KindHealth:      healthTable(),
		protocol.KindGap:         gapTable(),
		protocol.KindIQ:          iqTable(),
		protocol.KindReply:       replyTable(),
		protocol.KindSite:        siteTable(),
	}
	for _, table := range t {
		table.fields = append(identityFields(), table.fields...)
	}
	return t
}

func self(rec *protocol.Record) *protocol.Record { return rec }

// identityFields is what all tables begin with.
func identityFields() []field {
	type r = protocol.Record
	return []field{
		cellField("time", "timestamptz", "", func(e *entry) (*time.Time, error) { return &e.time, nil },
			func(rec *r) any { return scanNanos{&rec.Time} }),
		cellField("time_ns", "smallint", "", func(e *entry) (*int16, error) { return &e.timeNS, nil },
			func(rec *r) any { return addNanos{rec} }),
		textField("station", self, func(rec *r) **string { return &rec.Station }),
		blobField("spool", func(e *entry) ([]byte, error) { return e.stream.Spool[:], nil },
			func(rec *r) any { return &rec.Spool }),
		countField("seq", self, func(rec *r) **uint64 { return &rec.Seq }),
		blobField("digest", func(e *entry) ([]byte, error) { return e.digest[:], nil }, nil),
		cellField("received", "timestamptz", "", func(e *entry) (*time.Time, error) { return e.received, nil }, nil),
		textField("receiver", self, func(rec *r) **string { return &rec.Receiver }),
		textField("step", self, func(rec *r) **string { return &rec.Step }),
		enumField("time_quality", self, func(rec *r) **protocol.TimeQuality { return &rec.TimeQuality }, protocol.ParseTimeQuality),
		float64Field("time_uncertainty_s", self, func(rec *r) **float64 { return &rec.TimeUncertaintyS }),
	}
}

// addNanos adds the nanoseconds beyond the microsecond to a record's time, which was read before them.
type addNanos struct{ rec *protocol.Record }

func (a addNanos) Scan(v any) error {
	ns, ok := v.(int64)
	if !ok || a.rec.Time == nil {
		return fmt.Errorf("nanoseconds come as %T", v)
	}
	*a.rec.Time += ns
	return nil
}

func measurementTable() *table {
	type m = protocol.Measurement
	of := (*protocol.Record).GetMeasurement
	return &table{
		name: "measurement", listed: true,
		low: "center_hz - sample_rate_hz / 2", high: "center_hz + sample_rate_hz / 2",
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Measurement{Measurement: new(m)} },
		fields: []field{
			float64Field("duration_s", of, func(b *m) **float64 { return &b.DurationS }),
			float64Field("center_hz", of, func(b *m) **float64 { return &b.CenterHz }),
			float64Field("sample_rate_hz", of, func(b *m) **float64 { return &b.SampleRateHz }),
			countField("samples", of, func(b *m) **uint64 { return &b.Samples }),
			countField("lost_samples", of, func(b *m) **uint64 { return &b.LostSamples }),
			float32Field("clipped_fraction", of, func(b *m) **float32 { return &b.ClippedFraction }),
			float32Field("dc_i", of, func(b *m) **float32 { return &b.DcI }),
			float32Field("dc_q", of, func(b *m) **float32 { return &b.DcQ }),
			float32Field("power_dbfs", of, func(b *m) **float32 { return &b.PowerDbfs }),
			float32Field("noise_floor_dbfs_hz", of, func(b *m) **float32 { return &b.NoiseFloorDbfsHz }),
			float64Field("peak_hz", of, func(b *m) **float64 { return &b.PeakHz }),
			float32Field("peak_dbfs", of, func(b *m) **float32 { return &b.PeakDbfs }),
			float32Field("snr_db", of, func(b *m) **float32 { return &b.SnrDb }),
			float64Field("occupied_bandwidth_hz", of, func(b *m) **float64 { return &b.OccupiedBandwidthHz }),
			float64Field("occupied_low_hz", of, func(b *m) **float64 { return &b.OccupiedLowHz }),
			float64Field("occupied_high_hz", of, func(b *m) **float64 { return &b.OccupiedHighHz }),
			flagsField(of, func(b *m) *[]protocol.Flag { return &b.Flags }),
			float32Field("power_dbm", of, func(b *m) **float32 { return &b.PowerDbm }),
			float32Field("noise_floor_dbm_hz", of, func(b *m) **float32 { return &b.NoiseFloorDbmHz }),
			float32Field("peak_dbm", of, func(b *m) **float32 { return &b.PeakDbm }),
			float32Field("calibration_uncertainty_db", of, func(b *m) **float32 { return &b.CalibrationUncertaintyDb }),
		},
	}
}

func spectrumTable() *table {
	type s = protocol.Spectrum
	of := (*protocol.Record).GetSpectrum
	return &table{
		name: "spectrum", listed: true,
		low: "start_hz - step_hz / 2", high: "start_hz + step_hz * (bins - 0.5)",
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Spectrum{Spectrum: new(s)} },
		fields: []field{
			float64Field("start_hz", of, func(b *s) **float64 { return &b.StartHz }),
			float64Field("step_hz", of, func(b *s) **float64 { return &b.StepHz }),
			countField("averages", of, func(b *s) **uint32 { return &b.Averages }),
			float32Field("enbw_bins", of, func(b *s) **float32 { return &b.EnbwBins }),
			float64Field("duration_s", of, func(b *s) **float64 { return &b.DurationS }),
			float32Field("offset_dbfs_hz", of, func(b *s) **float32 { return &b.OffsetDbfsHz }),
			float32Field("resolution_db", of, func(b *s) **float32 { return &b.ResolutionDb }),
			countField("bins", of, func(b *s) **uint32 { return &b.Bins }),
			blobField("levels", func(e *entry) ([]byte, error) { return rawLevels(of(e.rec)) },
				func(rec *protocol.Record) any { return scanLevels{of(rec)} }),
		},
	}
}

// rawLevels is a spectrum's levels as one byte a bin, so that SQL can read them.
func rawLevels(s *protocol.Spectrum) ([]byte, error) {
	levels := s.Levels
	switch s.GetCodec() {
	case protocol.Spectrum_CODEC_UNSPECIFIED, protocol.Spectrum_CODEC_RAW:
	case protocol.Spectrum_CODEC_DEFLATE:
		inflate := flate.NewReader(bytes.NewReader(levels))
		var err error
		if levels, err = io.ReadAll(io.LimitReader(inflate, protocol.MaxBins+1)); err != nil {
			return nil, refuse("levels: %w", err)
		}
	default:
		return nil, refuse("codec: %s: this version knows raw and deflate", s.GetCodec())
	}
	if len(levels) > protocol.MaxBins || uint64(len(levels)) != uint64(s.GetBins()) {
		return nil, refuse("bins: %d: there are %d levels, and at most %d", s.GetBins(), len(levels), protocol.MaxBins)
	}
	return levels, nil
}

// scanLevels reads a spectrum's levels and says how they are coded.
type scanLevels struct{ to *protocol.Spectrum }

func (s scanLevels) Scan(v any) error {
	b, ok := v.([]byte)
	if v == nil {
		return nil
	}
	if !ok {
		return fmt.Errorf("levels come as %T", v)
	}
	s.to.Levels = bytes.Clone(b) // the driver's own until the next row
	s.to.Codec = protocol.Spectrum_CODEC_RAW.Enum()
	return nil
}

func detectionTable() *table {
	type d = protocol.Detection
	of := (*protocol.Record).GetDetection
	return &table{
		name: "detection", listed: true,
		low:   "coalesce(low_hz, center_hz - coalesce(bandwidth_hz, 0) / 2)",
		high:  "coalesce(high_hz, center_hz + coalesce(bandwidth_hz, 0) / 2)",
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Detection{Detection: new(d)} },
		fields: []field{
			cellField("detection_id", "text", "", detectionID, func(rec *protocol.Record) any { return &of(rec).DetectionId }),
			float64Field("duration_s", of, func(b *d) **float64 { return &b.DurationS }),
			float64Field("center_hz", of, func(b *d) **float64 { return &b.CenterHz }),
			float64Field("low_hz", of, func(b *d) **float64 { return &b.LowHz }),
			float64Field("high_hz", of, func(b *d) **float64 { return &b.HighHz }),
			float64Field("bandwidth_hz", of, func(b *d) **float64 { return &b.BandwidthHz }),
			float32Field("power_dbfs", of, func(b *d) **float32 { return &b.PowerDbfs }),
			float32Field("snr_db", of, func(b *d) **float32 { return &b.SnrDb }),
			boolField("open", of, func(b *d) **bool { return &b.Open }),
			flagsField(of, func(b *d) *[]protocol.Flag { return &b.Flags }),
			float32Field("power_dbm", of, func(b *d) **float32 { return &b.PowerDbm }),
			float32Field("calibration_uncertainty_db", of, func(b *d) **float32 { return &b.CalibrationUncertaintyDb }),
		},
	}
}

// detectionID is the emission's id: that of its first record, which does not carry it.
func detectionID(e *entry) (*string, error) {
	if id := e.rec.GetDetection().DetectionId; id != nil && *id != "" {
		if !storable(*id) {
			return nil, refuse("detection_id: %.60q: text must be UTF-8 without NUL", *id)
		}
		return id, nil
	}
	id := protocol.DetectionID(e.stream, e.seq)
	return &id, nil
}

func healthTable() *table {
	type h = protocol.Health
	of := (*protocol.Record).GetHealth
	return &table{
		name: "health", listed: true,
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Health{Health: new(h)} },
		fields: []field{
			timeField("now", of, func(b *h) **int64 { return &b.Now }),
			rangesField("unacked", of, func(b *h) *[]*protocol.SeqRange { return &b.Unacked }),
			countField("last_seq", of, func(b *h) **uint64 { return &b.LastSeq }),
			countField("spool_bytes", of, func(b *h) **uint64 { return &b.SpoolBytes }),
			countField("spool_limit_bytes", of, func(b *h) **uint64 { return &b.SpoolLimitBytes }),
			timeField("oldest", of, func(b *h) **int64 { return &b.Oldest }),
			messagesField("receivers", of, func(b *h) *[]*protocol.ReceiverHealth { return &b.Receivers }),
			messageField("clock", of, func(b *h) **protocol.Clock { return &b.Clock }),
			float32Field("temperature_c", of, func(b *h) **float32 { return &b.TemperatureC }),
			textField("version", of, func(b *h) **string { return &b.Version }),
			float64Field("uptime_s", of, func(b *h) **float64 { return &b.UptimeS }),
			blobField("health_spool", func(e *entry) ([]byte, error) { return of(e.rec).Spool, nil },
				func(rec *protocol.Record) any { return &of(rec).Spool }),
		},
	}
}

func gapTable() *table {
	type g = protocol.Gap
	of := (*protocol.Record).GetGap
	return &table{
		name: "gap", listed: true,
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Gap{Gap: new(g)} },
		fields: []field{
			blobField("gap_spool", func(e *entry) ([]byte, error) { return of(e.rec).Spool, nil },
				func(rec *protocol.Record) any { return &of(rec).Spool }),
			rangesField("ranges", of, func(b *g) *[]*protocol.SeqRange { return &b.Ranges }),
			textField("lane", of, func(b *g) **string { return &b.Lane }),
			countField("records", of, func(b *g) **uint64 { return &b.Records }),
			countField("bytes", of, func(b *g) **uint64 { return &b.Bytes }),
			timeField("from", of, func(b *g) **int64 { return &b.From }),
			timeField("to", of, func(b *g) **int64 { return &b.To }),
			enumField("reason", of, func(b *g) **protocol.Gap_Reason { return &b.Reason }, protocol.ParseGapReason),
		},
	}
}

func iqTable() *table {
	type c = protocol.IqChunk
	of := (*protocol.Record).GetIq
	return &table{
		name:  "iq_chunk",
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Iq{Iq: new(c)} },
		fields: []field{
			textField("capture_id", of, func(b *c) **string { return &b.CaptureId }),
			countField("index", of, func(b *c) **uint32 { return &b.Index }),
			countField("first_sample", of, func(b *c) **uint64 { return &b.FirstSample }),
			countField("samples", of, func(b *c) **uint32 { return &b.Samples }),
			blobField("data", func(e *entry) ([]byte, error) { return of(e.rec).Data, nil },
				func(rec *protocol.Record) any { return &of(rec).Data }),
		},
	}
}

func replyTable() *table {
	type r = protocol.Reply
	of := (*protocol.Record).GetReply
	manifest := func(rec *protocol.Record) *protocol.CaptureManifest {
		if m := of(rec).Capture; m != nil {
			return m
		}
		return new(protocol.CaptureManifest)
	}
	captureID := textField("capture_id", manifest, func(b *protocol.CaptureManifest) **string { return &b.Id })
	chunks := countField("chunks", manifest, func(b *protocol.CaptureManifest) **uint32 { return &b.Chunks })
	captureID.target, chunks.target = nil, nil // they come back with the manifest
	return &table{
		name: "reply", listed: true,
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Reply{Reply: new(r)} },
		fields: []field{
			textField("command_id", of, func(b *r) **string { return &b.CommandId }),
			textField("acquisition", of, func(b *r) **string { return &b.Acquisition }),
			enumField("state", of, func(b *r) **protocol.Reply_State { return &b.State }, protocol.ParseReplyState),
			textField("reason_code", of, func(b *r) **string { return &b.ReasonCode }),
			textField("message", of, func(b *r) **string { return &b.Message }),
			timeField("earliest_start", of, func(b *r) **int64 { return &b.EarliestStart }),
			captureID, chunks,
			messageField("capture", of, func(b *r) **protocol.CaptureManifest { return &b.Capture }),
			float64Field("progress", of, func(b *r) **float64 { return &b.Progress }),
		},
	}
}

func siteTable() *table {
	type s = protocol.Site
	of := (*protocol.Record).GetSite
	return &table{
		name:  "site",
		begin: func(rec *protocol.Record) { rec.Body = &protocol.Record_Site{Site: new(s)} },
		fields: []field{
			cellField("valid_from", "timestamptz", "", func(e *entry) (*time.Time, error) { return &e.time, nil }, nil),
			float64Field("lat", of, func(b *s) **float64 { return &b.LatitudeDeg }),
			float64Field("lon", of, func(b *s) **float64 { return &b.LongitudeDeg }),
			float64Field("height_m", of, func(b *s) **float64 { return &b.HeightM }),
			float64Field("uncertainty_m", of, func(b *s) **float64 { return &b.UncertaintyM }),
		},
	}
}

// selected is the table's columns that are read back, as SQL.
func (t *table) selected() string {
	var names []string
	for _, f := range t.fields {
		if f.target == nil {
			continue
		}
		name := `"` + f.name + `"`
		if f.asText {
			name = "CAST(" + name + " AS text)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// targets is an empty record of the table's kind and where the columns of selected go in it.
func (t *table) targets() (*protocol.Record, []any) {
	rec := new(protocol.Record)
	t.begin(rec)
	var to []any
	for _, f := range t.fields {
		if f.target != nil {
			to = append(to, f.target(rec))
		}
	}
	return rec, to
}

// columns are the rows of an insert.
func (t *table) columns(entries []*entry) ([]column, error) {
	columns := make([]column, len(t.fields))
	for i, f := range t.fields {
		v := f.values(len(entries))
		for _, e := range entries {
			if err := v.add(e); err != nil {
				return nil, err
			}
		}
		columns[i] = column{name: f.name, values: v}
	}
	return columns, nil
}
