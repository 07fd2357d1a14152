package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/protocol"
)

// info describes the station to others.
func (a *Agent) info() protocol.Info {
	info := protocol.Info{
		Station: a.cfg.Station.ID, Name: a.cfg.Station.Name, Position: publishedPosition(a.cfg.Station.Position),
		Receivers: []protocol.ReceiverInfo{}, Capabilities: []string{}, Version: a.version,
	}
	for _, order := range []string{"capture", "tune"} {
		if a.cfg.Control.allows(order) {
			info.Capabilities = append(info.Capabilities, order)
		}
	}
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

// clockStatus is what the station says of its clock.
func (a *Agent) clockStatus() clockStatus {
	r := a.clock.Reading()
	steps, last := a.clock.Steps()
	return clockStatus{
		Set: r.Set, Quality: r.Quality.Short(), UncertainS: r.Uncertainty.Seconds(), StepsTotal: steps, LastStepS: last.Seconds(),
		HeldRecords: a.publisher.held.size(),
	}
}

// stamp gives a record the time.
func stamp(r *protocol.Record, at clock.Reading) *protocol.Record {
	r.Time, r.TimeQuality = proto.Int64(at.Time.UnixNano()), &at.Quality
	if at.Uncertainty > 0 {
		r.TimeUncertaintyS = proto.Float64(at.Uncertainty.Seconds())
	}
	return r
}

// site is the antenna's true place, for the network's sums only; nil when it is not configured.
func (a *Agent) site() *protocol.Record {
	p := a.cfg.Station.Position
	if p == nil {
		return nil
	}
	return stamp(&protocol.Record{
		Body: &protocol.Record_Site{Site: &protocol.Site{LatitudeDeg: &p.Lat, LongitudeDeg: &p.Lon, HeightM: p.HeightM, UncertaintyM: p.UncertaintyM}},
	}, a.clock.Reading())
}

// condition is the station's state in a word, why, and since when.
type condition struct {
	word, reason string
	since        time.Duration // of the clock's Elapsed: no step moves it
}

// condition tells how the station is now.
func (a *Agent) condition() condition {
	now := condition{word: "running", reason: a.network.waitsFor(), since: a.clock.Elapsed()}
	if !a.clock.Reading().Set {
		now.word, now.reason = "degraded", "the clock of this computer is not set: what it hears waits in memory until it is"
	}
	if left := a.leftOut(); left != "" {
		now.word, now.reason = "degraded", left
	}
	for _, r := range a.receivers {
		if h := r.survey.Health(); h.Err != nil && !h.Connected {
			now.word, now.reason = "degraded", fmt.Sprintf("receiver %s: %v", r.cfg.ID, h.Err)
			break
		}
	}
	if a.network.hasRival() {
		now.word, now.reason = "degraded", duplicateIdentity
	}
	if p := a.duty.paused(); p != nil {
		now.word, now.reason = "paused", p.says()
		now.since -= max(0, a.now().Sub(p.Since))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.word == a.last.word {
		now.since = a.last.since
	}
	a.last = now
	return now
}

// state is what the station says of itself, all of it.
func (a *Agent) state(is condition) protocol.State {
	now := a.clock.Reading()
	stats := a.spool.Stats()
	s := protocol.State{
		Time: protocol.FormatTime(now.Time), State: is.word, Reason: is.reason,
		Since:       protocol.FormatTime(now.Time.Add(is.since - a.clock.Elapsed())),
		Receivers:   map[string]protocol.ReceiverState{},
		TimeQuality: now.Quality.Short(), TimeUncertaintyS: now.Uncertainty.Seconds(),
		Backlog: uint64(stats.Records) + uint64(a.publisher.held.size()), SpoolUsedRatio: round(stats.UsedRatio, 1e6),
	}
	if !stats.Oldest.IsZero() {
		s.BacklogAgeS = round(max(0, now.Time.Sub(stats.Oldest)).Seconds(), 1e3) // by record times: a step may put one ahead
	}
	for _, r := range a.receivers {
		s.Receivers[r.cfg.ID] = r.survey.State()
	}
	return s
}

const (
	stateBytes  = 1024 // the retained state is smaller
	reasonBytes = 160  // of a reason when room is short
)

// encodeState writes the retained state. Where it would be too large, what is needed least goes first: the end of a long
// reason, the steps' levels, the receivers.
func encodeState(s protocol.State) ([]byte, error) {
	text, err := json.Marshal(s)
	for _, shorten := range []func(*protocol.State){shortReason, withoutSteps, withoutReceivers} {
		if err != nil || len(text) < stateBytes {
			break
		}
		shorten(&s)
		text, err = json.Marshal(s)
	}
	return text, err
}

func shortReason(s *protocol.State) {
	if len(s.Reason) > reasonBytes {
		s.Reason = strings.ToValidUTF8(s.Reason[:reasonBytes], "") + "…"
	}
}

func withoutSteps(s *protocol.State) {
	receivers := make(map[string]protocol.ReceiverState, len(s.Receivers))
	for id, r := range s.Receivers {
		r.Steps = map[string]protocol.StepState{}
		receivers[id] = r
	}
	s.Receivers = receivers
}

func withoutReceivers(s *protocol.State) { s.Receivers = map[string]protocol.ReceiverState{} }

// health is the agent's account of itself, for the database.
func (a *Agent) health() *protocol.Record {
	now := a.clock.Reading()
	steps, last := a.clock.Steps()
	stats := a.spool.Stats()
	h := &protocol.Health{
		Now:             proto.Int64(now.Time.UnixNano()),
		Unacked:         a.spool.Unacked().Coarsen(64).Wire(),
		LastSeq:         proto.Uint64(stats.LastSeq),
		Spool:           stats.Identity[:],
		SpoolBytes:      proto.Uint64(uint64(stats.Bytes)),
		SpoolLimitBytes: proto.Uint64(uint64(stats.Limit)),
		Clock:           &protocol.Clock{Quality: &now.Quality, StepsTotal: &steps},
		Version:         proto.String(a.version),
		UptimeS:         proto.Float64(round(a.uptime().Seconds(), 1e3)),
	}
	if now.Set {
		h.Clock.UncertaintyS = proto.Float64(now.Uncertainty.Seconds())
	}
	if steps > 0 {
		h.Clock.LastStepS = proto.Float64(last.Seconds())
	}
	if a.cfg.Delivery.Ack == "broker" {
		h.BrokerAck = proto.Bool(true)
	}
	if !stats.Oldest.IsZero() {
		h.Oldest = proto.Int64(stats.Oldest.UnixNano())
	}
	for _, r := range a.receivers {
		h.Receivers = append(h.Receivers, r.survey.ReceiverHealth())
	}
	return stamp(&protocol.Record{Body: &protocol.Record_Health{Health: h}}, now)
}
