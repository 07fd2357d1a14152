package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	stateEvery    = time.Minute
	healthEvery   = time.Minute
	lookEvery     = time.Second
	maxStateBytes = 1024
)

// timeText is RFC 3339 in UTC with nanoseconds.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// info describes the station to others.
func (a *Agent) info() protocol.Info {
	info := protocol.Info{
		Station: a.cfg.Station.ID, Name: a.cfg.Station.Name, Position: publishedPosition(a.cfg.Station.Position),
		Receivers: []protocol.ReceiverInfo{}, Capabilities: []string{}, Version: a.version,
	}
	info.Capabilities = append(info.Capabilities, a.cfg.Control.Allow...)
	for _, r := range a.receivers {
		info.Receivers = append(info.Receivers, r.info())
	}
	return info
}

// cellDeg is the height of a cell of published positions: 10 km of latitude.
const cellDeg = 0.09

// publishedPosition is what the owner lets others see. A blurred position is the centre of a fixed cell, the same for all
// stations in it and at all times, so that it tells nothing more when it is seen twice.
func publishedPosition(p *PositionConfig) *protocol.Position {
	if p == nil || p.Publish == "hidden" {
		return nil
	}
	if p.Publish == "exact" {
		published := &protocol.Position{LatitudeDeg: p.Lat, LongitudeDeg: p.Lon, Precision: "exact"}
		if p.HeightM != nil {
			published.HeightM = *p.HeightM
		}
		return published
	}
	lat := cellCentre(p.Lat, cellDeg)
	width := cellDeg / math.Max(0.01, math.Cos(lat*math.Pi/180))
	return &protocol.Position{LatitudeDeg: round(lat, 1e4), LongitudeDeg: round(cellCentre(p.Lon, width), 1e4), Precision: "10km"}
}

func cellCentre(v, cell float64) float64 { return (math.Floor(v/cell) + 0.5) * cell }

func round(v, steps float64) float64 { return math.Round(v*steps) / steps }

// site is the antenna's true place, for the network's sums only; nil when it is not configured.
func (a *Agent) site() *protocol.Record {
	p := a.cfg.Station.Position
	if p == nil {
		return nil
	}
	return &protocol.Record{
		Time: proto.Int64(a.now().UnixNano()),
		Body: &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: &p.Lat, LongitudeDeg: &p.Lon, HeightM: p.HeightM, UncertaintyM: p.UncertaintyM}},
	}
}

// condition is the station's state in a word, and why.
func (a *Agent) condition() (state, reason string) {
	for _, r := range a.receivers {
		h := r.survey.Health()
		if h.Err != nil && !h.Connected {
			return "degraded", fmt.Sprintf("receiver %s: %v", r.cfg.ID, h.Err)
		}
	}
	return "running", ""
}

// state is the retained condition. It stays under 1 KiB: where it would not, the steps' levels are left out.
func (a *Agent) state(state, reason string, since time.Time) protocol.State {
	now := a.now()
	quality, uncertainty := systemClock(time.Duration(a.cfg.Clock.Uncertainty))
	stats := a.spool.Stats()
	s := protocol.State{
		Time: timeText(now), State: state, Reason: reason, Since: timeText(since),
		Receivers:   map[string]protocol.ReceiverState{},
		TimeQuality: quality.Short(), TimeUncertaintyS: uncertainty.Seconds(),
		Backlog: uint64(stats.Records), SpoolUsedRatio: round(stats.UsedRatio, 1e6),
	}
	if !stats.Oldest.IsZero() {
		s.BacklogAgeS = round(now.Sub(stats.Oldest).Seconds(), 1e3)
	}
	for _, r := range a.receivers {
		s.Receivers[r.cfg.ID] = r.survey.State()
	}
	return s
}

func encodeState(s protocol.State) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil || len(text) <= maxStateBytes {
		return text, err
	}
	for id, r := range s.Receivers {
		r.Steps = map[string]protocol.StepState{}
		s.Receivers[id] = r
	}
	return json.Marshal(s)
}

// health is the agent's account of itself, for the database.
func (a *Agent) health() *protocol.Record {
	now := a.now()
	quality, uncertainty := systemClock(time.Duration(a.cfg.Clock.Uncertainty))
	stats := a.spool.Stats()
	h := &protocol.Health{
		Now:             proto.Int64(now.UnixNano()),
		Unacked:         a.spool.Unacked().Coarsen(64).Wire(),
		LastSeq:         proto.Uint64(stats.LastSeq),
		SpoolBytes:      proto.Uint64(uint64(stats.Bytes)),
		SpoolLimitBytes: proto.Uint64(uint64(stats.Limit)),
		Clock:           &protocol.Clock{Quality: &quality, UncertaintyS: proto.Float64(uncertainty.Seconds())},
		Version:         proto.String(a.version),
		UptimeS:         proto.Float64(round(now.Sub(a.began).Seconds(), 1e3)),
	}
	if !stats.Oldest.IsZero() {
		h.Oldest = proto.Int64(stats.Oldest.UnixNano())
	}
	for _, r := range a.receivers {
		h.Receivers = append(h.Receivers, r.survey.ReceiverHealth())
	}
	return &protocol.Record{
		Time: h.Now, TimeQuality: &quality, TimeUncertaintyS: proto.Float64(uncertainty.Seconds()),
		Body: &protocol.Record_Health{Health: h},
	}
}

// reporter publishes info and state when they change, and state and health each minute.
type reporter struct {
	agent     *Agent
	log       *slog.Logger
	info      []byte
	state     string // in a word, with its reason
	since     time.Time
	stateAt   time.Time
	healthAt  time.Time
	connected map[string]bool
	levelled  map[string]bool
}

// run reports until the context ends, then says that the station stopped.
func (r *reporter) run(ctx context.Context) {
	if site := r.agent.site(); site != nil {
		if err := r.agent.publisher.Queue(ctx, site); err != nil {
			r.log.WarnContext(ctx, "cannot store the station's place", "error", err)
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		r.look(ctx)
		select {
		case <-ctx.Done():
			r.publishState(context.WithoutCancel(ctx), "stopped", "the agent was stopped", r.agent.now())
			return
		case <-tick.C:
		}
	}
}

// look publishes what has changed or is due.
func (r *reporter) look(ctx context.Context) {
	now := r.agent.now()
	info, err := json.Marshal(r.agent.info())
	if err != nil {
		r.log.ErrorContext(ctx, "cannot encode the station's description", "error", err)
	} else if !bytes.Equal(info, r.info) {
		r.info = info
		r.agent.network.setInfo(info)
	}
	state, reason := r.agent.condition()
	changed := state+reason != r.state
	if changed {
		r.state, r.since = state+reason, now
	}
	for _, rx := range r.agent.receivers {
		s := rx.survey.State()
		level := len(s.Steps) > 0
		for _, step := range s.Steps {
			level = level && step.PowerDBFS != nil
		}
		if s.Connected != r.connected[rx.cfg.ID] || level != r.levelled[rx.cfg.ID] {
			r.connected[rx.cfg.ID], r.levelled[rx.cfg.ID] = s.Connected, level
			changed = true
		}
	}
	if changed || now.Sub(r.stateAt) >= stateEvery || now.Before(r.stateAt) {
		r.stateAt = now
		r.publishState(ctx, state, reason, r.since)
	}
	if now.Sub(r.healthAt) >= healthEvery || now.Before(r.healthAt) {
		r.healthAt = now
		if err := r.agent.publisher.Queue(ctx, r.agent.health()); err != nil {
			r.log.WarnContext(ctx, "cannot store the station's health", "error", err)
		}
	}
}

func (r *reporter) publishState(ctx context.Context, state, reason string, since time.Time) {
	text, err := encodeState(r.agent.state(state, reason, since))
	if err != nil {
		r.log.ErrorContext(ctx, "cannot encode the station's state", "error", err)
		return
	}
	r.agent.network.setState(text)
}
