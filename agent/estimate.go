package main

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

// What a station says of itself each minute, as measured with one receiver. Others add a few bytes each.
const (
	healthBytes    = 140 // a record
	broadcastBytes = 450 // of state, for the broker only
)

// trial makes records of what a receiver hears while it is tried, as the survey will.
type trial struct {
	analyzer     *survey.Analyzer
	measurement  *protocol.Record // the latest; nil before the first
	spectrum     *protocol.Record
	historyBytes float64 // a second of IQ
}

func newTrial() (*trial, error) {
	receiver := ReceiverConfig{ID: "r0"}
	receiver.setDefaults()
	cfg := receiver.analyzer()
	cfg.Receiver, cfg.Step = receiver.ID, survey.WholePassband
	cfg.MeasurementEvery, cfg.SpectrumEvery, cfg.Detect.Off = time.Second, time.Second, true
	analyzer, err := survey.NewAnalyzer(cfg)
	return &trial{analyzer: analyzer}, err
}

func (t *trial) hear(b *radio.Block) {
	t.historyBytes = b.Tuning.SampleRateHz * float64(b.Format.BytesPerSample())
	for _, e := range t.analyzer.Write(b) {
		if e.Record.Kind() == protocol.KindMeasurement {
			t.measurement = e.Record
		} else {
			t.spectrum = e.Record // detections are off
		}
	}
}

// estimate is what one receiver will take, but for detections, whose number nobody knows.
type estimate struct {
	stored, sent float64 // bytes a day: of the spool, and of payload to the broker
	historyS     float64
}

// estimate goes by the records that the trial made, and how often the configuration wants such ones. It is zero where the trial
// was too short for a measurement.
func (t *trial) estimate(cfg Config) (e estimate, err error) {
	if t.measurement == nil {
		return e, nil
	}
	receiver := cfg.Receivers[0]
	e.historyS = float64(*receiver.History) / t.historyBytes
	e.stored = perDay(time.Minute) * float64(spool.RecordBytes(protocol.KindHealth, healthBytes))
	e.sent = perDay(time.Minute) * (healthBytes + broadcastBytes)
	for _, wanted := range []struct {
		record *protocol.Record
		every  time.Duration
	}{
		{t.measurement, time.Duration(receiver.Measurement.Every)},
		{t.spectrum, time.Duration(*receiver.Spectrum.Every)},
	} {
		if wanted.record == nil || wanted.every == 0 {
			continue
		}
		stored, sent, err := recordBytes(cfg, wanted.record)
		if err != nil {
			return e, err
		}
		e.stored += perDay(wanted.every) * float64(stored)
		e.sent += perDay(wanted.every) * float64(sent)
	}
	return e, nil
}

func perDay(every time.Duration) float64 { return float64(day) / float64(every) }

// recordBytes is what a record counts in the spool, and what goes to the broker of it.
func recordBytes(cfg Config, r *protocol.Record) (stored int64, sent int, err error) {
	r.Station = proto.String(cfg.Station.ID)
	payload, err := protocol.Encode(r)
	if err != nil {
		return 0, 0, fmt.Errorf("encode a %s: %w", r.Kind(), err)
	}
	stored = spool.RecordBytes(r.Kind(), len(payload))
	const someNumber = 1 << 20 // which takes as many bytes as most
	sealed := protocol.Seal(payload, [protocol.SpoolBytes]byte{}, someNumber)
	if cfg.MQTT.Format != "json" {
		return stored, len(protocol.WithoutStation(sealed, cfg.Station.ID)), nil
	}
	text, err := sealedJSON(sealed)
	return stored, len(text), err
}

func sealedJSON(sealed []byte) ([]byte, error) {
	r, err := protocol.Decode(sealed)
	if err != nil {
		return nil, err
	}
	return protocol.MarshalJSON(r)
}

// text says it as far as it is known.
func (e estimate) text(cfg Config) string {
	if e.stored == 0 {
		return ""
	}
	text := "History reaches back " + span(e.historyS) + ".\n"
	if limit, err := spoolLimit(cfg.Spool); err != nil {
		text = err.Error() + ".\n" + text
	} else {
		text = "Spool holds about " + people(time.Duration(float64(limit)/e.stored*float64(day))) + " of this plan. " + text
	}
	sends := "This plan sends"
	if cfg.MQTT.URL == "" {
		sends = "With a broker this plan would send"
	}
	return text + fmt.Sprintf("%s about %s a day, and detections besides.\n", sends, megabytes(e.sent))
}

// megabytes is a number of bytes to two digits: 15 MB, 1.5 MB.
func megabytes(bytes float64) string {
	digits := 0
	if bytes < 10e6 {
		digits = 1
	}
	return strconv.FormatFloat(bytes/1e6, 'f', digits, 64) + " MB"
}
