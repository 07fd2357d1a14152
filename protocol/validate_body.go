package protocol

import "strconv"

func (c *checker) measurement(m *Measurement) {
	checkNumber(c, "duration_s", m.DurationS, 0, maxSeconds)
	checkNumber(c, "center_hz", m.CenterHz, -maxHz, maxHz)
	c.positive("sample_rate_hz", m.SampleRateHz, maxHz)
	checkCount(c, "samples", m.Samples, maxCount)
	checkCount(c, "lost_samples", m.LostSamples, maxCount)
	checkNumber(c, "clipped_fraction", m.ClippedFraction, 0, 1)
	checkNumber(c, "dc_i", m.DcI, -maxLevel, maxLevel)
	checkNumber(c, "dc_q", m.DcQ, -maxLevel, maxLevel)
	checkNumber(c, "power_dbfs", m.PowerDbfs, -maxDB, maxDB)
	checkNumber(c, "noise_floor_dbfs_hz", m.NoiseFloorDbfsHz, -maxDB, maxDB)
	checkNumber(c, "peak_hz", m.PeakHz, -maxHz, maxHz)
	checkNumber(c, "peak_dbfs", m.PeakDbfs, -maxDB, maxDB)
	checkNumber(c, "snr_db", m.SnrDb, -maxDB, maxDB)
	checkNumber(c, "occupied_bandwidth_hz", m.OccupiedBandwidthHz, 0, maxHz)
	checkNumber(c, "occupied_low_hz", m.OccupiedLowHz, -maxHz, maxHz)
	checkNumber(c, "occupied_high_hz", m.OccupiedHighHz, -maxHz, maxHz)
	c.ordered("occupied_low_hz", "occupied_high_hz", m.OccupiedLowHz, m.OccupiedHighHz)
	c.flags(m.Flags)
	checkNumber(c, "power_dbm", m.PowerDbm, -maxDB, maxDB)
	checkNumber(c, "noise_floor_dbm_hz", m.NoiseFloorDbmHz, -maxDB, maxDB)
	checkNumber(c, "peak_dbm", m.PeakDbm, -maxDB, maxDB)
	checkNumber(c, "calibration_uncertainty_db", m.CalibrationUncertaintyDb, 0, maxDB)
}

func (c *checker) spectrum(s *Spectrum) {
	checkNumber(c, "start_hz", s.StartHz, -maxHz, maxHz)
	c.positive("step_hz", s.StepHz, maxHz)
	checkCount(c, "averages", s.Averages, maxIndex)
	checkNumber(c, "enbw_bins", s.EnbwBins, 0, MaxBins)
	checkNumber(c, "duration_s", s.DurationS, 0, maxSeconds)
	checkNumber(c, "offset_dbfs_hz", s.OffsetDbfsHz, -maxDB, maxDB)
	checkNumber(c, "resolution_db", s.ResolutionDb, 0, maxDB)
	if c.err != nil {
		return
	}
	if err := s.checkLevels(); err != nil {
		c.err = asError(err)
		c.err.Field = c.at(c.err.Field)
	}
}

func (c *checker) detection(d *Detection) {
	c.id("detection_id", d.DetectionId, false)
	checkNumber(c, "duration_s", d.DurationS, 0, maxSeconds)
	checkNumber(c, "center_hz", d.CenterHz, -maxHz, maxHz)
	checkNumber(c, "low_hz", d.LowHz, -maxHz, maxHz)
	checkNumber(c, "high_hz", d.HighHz, -maxHz, maxHz)
	c.ordered("low_hz", "high_hz", d.LowHz, d.HighHz)
	checkNumber(c, "bandwidth_hz", d.BandwidthHz, 0, maxHz)
	checkNumber(c, "power_dbfs", d.PowerDbfs, -maxDB, maxDB)
	checkNumber(c, "snr_db", d.SnrDb, -maxDB, maxDB)
	c.flags(d.Flags)
	checkNumber(c, "power_dbm", d.PowerDbm, -maxDB, maxDB)
	checkNumber(c, "calibration_uncertainty_db", d.CalibrationUncertaintyDb, 0, maxDB)
}

func (c *checker) health(h *Health) {
	c.timestamp("now", h.Now)
	c.ranges("unacked", h.Unacked, MaxUnackedRanges)
	checkCount(c, "last_seq", h.LastSeq, MaxSeq)
	checkCount(c, "spool_bytes", h.SpoolBytes, maxCount)
	checkCount(c, "spool_limit_bytes", h.SpoolLimitBytes, maxCount)
	c.timestamp("oldest", h.Oldest)
	c.most("receivers", len(h.Receivers), MaxElements)
	for i, r := range h.Receivers {
		c.within("receivers["+strconv.Itoa(i)+"]", r != nil, func() { c.receiverHealth(r) })
	}
	if h.Clock != nil {
		checkEnum(c, "clock.quality", h.Clock.Quality)
		checkNumber(c, "clock.uncertainty_s", h.Clock.UncertaintyS, 0, maxSeconds)
		checkNumber(c, "clock.last_step_s", h.Clock.LastStepS, -maxSeconds, maxSeconds)
	}
	checkNumber(c, "temperature_c", h.TemperatureC, -274, 10000)
	c.text("version", h.Version, MaxTextBytes)
	checkNumber(c, "uptime_s", h.UptimeS, 0, maxSeconds)
	if h.Spool != nil {
		c.spool(h.Spool)
	}
}

func (c *checker) receiverHealth(r *ReceiverHealth) {
	c.text("receiver", r.Receiver, MaxTextBytes)
	checkCount(c, "samples_total", r.SamplesTotal, maxCount)
	c.most("lost", len(r.Lost), MaxUnackedRanges)
	for i, l := range r.Lost {
		c.within("lost["+strconv.Itoa(i)+"]", l != nil, func() {
			c.text("reason", l.Reason, MaxTextBytes)
			checkCount(c, "samples", l.Samples, maxCount)
		})
	}
	checkNumber(c, "history_s", r.HistoryS, 0, maxSeconds)
	checkNumber(c, "rate_ppm", r.RatePpm, -1e6, 1e6)
	checkNumber(c, "lag_s", r.LagS, 0, maxSeconds)
	c.sentence("error", r.Error)
}

func (c *checker) gap(g *Gap) {
	if g.Spool != nil {
		c.spool(g.Spool)
	}
	c.ranges("ranges", g.Ranges, MaxElements)
	c.text("lane", g.Lane, MaxTextBytes)
	checkCount(c, "records", g.Records, maxCount)
	checkCount(c, "bytes", g.Bytes, maxCount)
	c.timestamp("from", g.From)
	c.timestamp("to", g.To)
	checkEnum(c, "reason", g.Reason)
}

func (c *checker) chunk(q *IqChunk) {
	c.id("capture_id", q.CaptureId, true)
	if q.Index == nil {
		c.refuse(CodeMalformed, "index", nil, "missing: chunks count from 0")
	}
	checkCount(c, "index", q.Index, maxIndex)
	checkCount(c, "first_sample", q.FirstSample, maxCount)
	checkCount(c, "samples", q.Samples, maxIndex)
	switch n := len(q.Data); {
	case n == 0:
		c.refuse(CodeMalformed, "data", nil, "missing: a chunk carries at least one sample")
	case n > MaxChunkBytes:
		c.refuse(CodeTooLarge, "data", nil, "%d bytes, at most %d in one chunk", n, MaxChunkBytes)
	}
}

func (c *checker) reply(r *Reply) {
	c.id("command_id", r.CommandId, true)
	c.id("acquisition", r.Acquisition, false)
	if r.State == nil {
		c.refuse(CodeMalformed, "state", nil, "missing")
	}
	checkEnum(c, "state", r.State)
	c.text("reason_code", r.ReasonCode, MaxTextBytes)
	c.sentence("message", r.Message)
	c.timestamp("earliest_start", r.EarliestStart)
	checkNumber(c, "progress", r.Progress, 0, 1)
	if m := r.Capture; m != nil {
		c.within("capture", true, func() { c.manifest(m) })
	}
}

func (c *checker) manifest(m *CaptureManifest) {
	c.id("id", m.Id, true)
	c.timestamp("start", m.Start)
	c.timestamp("asked_start", m.AskedStart)
	checkNumber(c, "duration_s", m.DurationS, 0, maxSeconds)
	checkNumber(c, "center_hz", m.CenterHz, -maxHz, maxHz)
	c.positive("sample_rate_hz", m.SampleRateHz, maxHz)
	if m.Format != nil && !sigmfDatatype.MatchString(m.GetFormat()) {
		c.refuse(CodeMalformed, "format", m.GetFormat(), "want a SigMF datatype such as cu8 or ci16_le")
	}
	c.positive("scale", m.Scale, maxLevel)
	checkCount(c, "chunks", m.Chunks, maxIndex)
	checkCount(c, "bytes", m.Bytes, maxCount)
	if n := len(m.Sha512); m.Sha512 != nil && n != 64 {
		c.refuse(CodeMalformed, "sha512", nil, "%d bytes, want 64", n)
	}
	c.most("gaps", len(m.Gaps), MaxElements)
	for i, g := range m.Gaps {
		c.within("gaps["+strconv.Itoa(i)+"]", g != nil, func() {
			checkCount(c, "sample", g.Sample, maxCount)
			checkCount(c, "lost", g.Lost, maxCount)
			c.timestamp("time", g.Time)
		})
	}
	if t := m.Tuning; t != nil {
		checkNumber(c, "tuning.center_hz", t.CenterHz, -maxHz, maxHz)
		c.positive("tuning.sample_rate_hz", t.SampleRateHz, maxHz)
		checkNumber(c, "tuning.gain_db", t.GainDb, -maxDB, maxDB)
	}
	checkCount(c, "samples", m.Samples, maxCount)
	checkEnum(c, "time_quality", m.TimeQuality)
	checkNumber(c, "time_uncertainty_s", m.TimeUncertaintyS, 0, maxSeconds)
	c.text("receiver", m.Receiver, MaxTextBytes)
	if m.Measurement != nil {
		c.within("measurement", true, func() { c.measurement(m.Measurement) })
	}
	c.text("recorder", m.Recorder, MaxTextBytes)
	c.text("hardware", m.Hardware, MaxTextBytes)
}

func (c *checker) site(s *Site) {
	if s.LatitudeDeg == nil || s.LongitudeDeg == nil {
		c.refuse(CodeMalformed, "latitude_deg", nil, "missing: a site needs latitude and longitude")
	}
	checkNumber(c, "latitude_deg", s.LatitudeDeg, -90, 90)
	checkNumber(c, "longitude_deg", s.LongitudeDeg, -180, 180)
	checkNumber(c, "height_m", s.HeightM, -12000, 1e8)
	checkNumber(c, "uncertainty_m", s.UncertaintyM, 0, 1e8)
}

func (c *checker) capture(o *Capture) {
	c.id("acquisition", o.Acquisition, false)
	c.text("receiver", o.Receiver, MaxTextBytes)
	c.timestamp("start", o.Start)
	c.required("duration_s", o.DurationS)
	c.positive("duration_s", o.DurationS, maxSeconds)
	c.required("center_hz", o.CenterHz)
	checkNumber(c, "center_hz", o.CenterHz, -maxHz, maxHz)
	c.positive("bandwidth_hz", o.BandwidthHz, maxHz)
}

func (c *checker) tune(o *Tune) {
	c.text("receiver", o.Receiver, MaxTextBytes)
	c.required("center_hz", o.CenterHz)
	checkNumber(c, "center_hz", o.CenterHz, -maxHz, maxHz)
	c.positive("sample_rate_hz", o.SampleRateHz, maxHz)
	c.positive("duration_s", o.DurationS, maxSeconds)
}
