package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// tapLine is what one receiver hears now.
type tapLine struct {
	Time             string        `json:"time"`
	Receiver         string        `json:"receiver"`
	Step             string        `json:"step"`
	PowerDBFS        *float64      `json:"power_dbfs,omitempty"`
	NoiseFloorDBFSHz *float64      `json:"noise_floor_dbfs_hz,omitempty"`
	SNRDB            *float64      `json:"snr_db,omitempty"`
	PeakHz           *float64      `json:"peak_hz,omitempty"`
	Detections       uint64        `json:"detections"`
	LastDetection    *tapDetection `json:"last_detection,omitempty"`
	HistoryS         float64       `json:"history_s"`
	Held             int           `json:"held,omitempty"` // detections whose IQ stays in memory beyond that
	TimeQuality      string        `json:"time_quality"`
	UncertaintyS     float64       `json:"time_uncertainty_s"`
	// Away is what keeps the receiver off its plan; then nothing is measured.
	Away         *protocol.ReceiverAway `json:"away,omitempty"`
	Backlog      *int64                 `json:"backlog,omitempty"`      // absent where no agent runs
	Acknowledged *uint64                `json:"acknowledged,omitempty"` // likewise
}

type tapDetection struct {
	Time      string  `json:"time"`
	CenterHz  float64 `json:"center_hz"`
	DurationS float64 `json:"duration_s"`
	SNRDB     float64 `json:"snr_db"`
}

func lineOf(s survey.Snapshot) tapLine {
	if s.Away != nil {
		return tapLine{
			Time: protocol.FormatTime(s.Time), Receiver: s.Receiver, HistoryS: round(s.History.Seconds(), 1e3), Held: s.Held, Away: s.Away,
		}
	}
	rec := s.Measurement
	m := rec.GetMeasurement()
	line := tapLine{
		Time: protocol.FormatTime(s.Time), Receiver: s.Receiver, Step: s.Step, Detections: s.Detections,
		PowerDBFS: decimal(m.PowerDbfs), NoiseFloorDBFSHz: decimal(m.NoiseFloorDbfsHz), SNRDB: decimal(m.SnrDb), PeakHz: m.PeakHz,
		HistoryS: round(s.History.Seconds(), 1e3), Held: s.Held,
		TimeQuality: rec.GetTimeQuality().Short(), UncertaintyS: rec.GetTimeUncertaintyS(),
	}
	if d := s.Detection.GetDetection(); d != nil {
		line.LastDetection = &tapDetection{
			Time: protocol.FormatTime(time.Unix(0, s.Detection.GetTime())), CenterHz: d.GetCenterHz(), DurationS: d.GetDurationS(), SNRDB: round(float64(d.GetSnrDb()), 100),
		}
	}
	return line
}

// decimal is the float64 that prints as the float32 does.
func decimal(v *float32) *float64 {
	if v == nil {
		return nil
	}
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(*v), 'g', -1, 32), 64)
	if err != nil {
		return nil
	}
	return &d
}

// tapLine adds what only a running agent knows.
func (a *Agent) tapLine(s survey.Snapshot) tapLine {
	line := lineOf(s)
	backlog, acknowledged := a.spool.Stats().Records, a.acknowledged()
	line.Backlog, line.Acknowledged = &backlog, &acknowledged
	return line
}

func (l tapLine) String() string {
	var b strings.Builder
	clock := l.Time
	if t, err := protocol.ParseTime(l.Time); err == nil {
		clock = t.Format("15:04:05.000")
	}
	if l.Away != nil {
		return fmt.Sprintf("%s  %s %s", clock, l.Receiver, awayFor(l.Away))
	}
	fmt.Fprintf(&b, "%s  %s %s  level %s dBFS  floor %s dBFS/Hz  SNR %s dB", clock, l.Receiver, l.Step, number(l.PowerDBFS), number(l.NoiseFloorDBFSHz), number(l.SNRDB))
	if l.PeakHz != nil {
		fmt.Fprintf(&b, " at %s", configs.Hertz(math.Round(*l.PeakHz)))
	}
	fmt.Fprintf(&b, "  detections %d", l.Detections)
	if d := l.LastDetection; d != nil {
		fmt.Fprintf(&b, " (last %s, %.3f s, SNR %.1f dB)", configs.Hertz(math.Round(d.CenterHz)), d.DurationS, d.SNRDB)
	}
	fmt.Fprintf(&b, "  %s  clock %s ±%s", reach(l.HistoryS, l.Held), l.TimeQuality, time.Duration(l.UncertaintyS*1e9))
	if l.Backlog != nil {
		fmt.Fprintf(&b, "  backlog %d, acknowledged %d", *l.Backlog, *l.Acknowledged)
	}
	return b.String()
}

// span is a length of time as people think of it: 27 s, 23 min, 2.5 h.
func span(seconds float64) string {
	switch {
	case seconds >= 7200:
		return fmt.Sprintf("%.1f h", seconds/3600)
	case seconds >= 120:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.0f s", seconds)
}

// reach says how far back the IQ of a receiver goes.
func reach(historyS float64, held int) string {
	text := "history reaches back " + span(historyS)
	switch {
	case held == 1:
		text += ", 1 detection held"
	case held > 1:
		text += fmt.Sprintf(", %d detections held", held)
	}
	return text
}

// awayFor says for people what keeps a receiver off its plan.
func awayFor(h *protocol.ReceiverAway) string {
	until := h.Until
	if t, err := protocol.ParseTime(until); err == nil {
		until = t.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("off its plan, at %s for order %s until %s", configs.Hertz(math.Round(h.CenterHz)), h.Order, until)
}

// forget is a Publisher for a view: records are counted, not kept.
type forget struct{ count *atomic.Uint64 }

func (f forget) Publish(context.Context, *protocol.Record) (string, error) {
	return "tap-" + strconv.FormatUint(f.count.Add(1), 10), nil
}

// tapAlone surveys the receivers only to show what they hear.
func tapAlone(ctx context.Context, cfg Config, show func(tapLine) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	snapshots := make(chan survey.Snapshot) // capacity 0: each subscription has its own bounded queue
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	hosts := radio.NewHosts()
	for _, rc := range cfg.Receivers {
		r, err := newReceiver(rc, forget{new(atomic.Uint64)}, radio.SystemWall, hosts, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		from, cancel := r.survey.Subscribe()
		working.Go(func() {
			defer cancel()
			_ = r.survey.Run(ctx) // it tries again by itself, and nothing it hears is kept
		})
		working.Go(func() { forward(ctx, from, snapshots) })
	}
	ended := make(chan struct{})
	go func() { working.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		case s := <-snapshots:
			if err := show(lineOf(s)); err != nil {
				return err
			}
		}
	}
}
