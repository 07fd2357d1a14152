package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	lookEvery   = time.Second
	reportEvery = time.Minute // state and health
)

// reporter publishes info and state when they change, and state and health each minute.
type reporter struct {
	agent *Agent
	log   *slog.Logger

	// What was published last, and when by the clock's Elapsed; 0: never.
	info      []byte
	condition condition
	receivers map[string]reception
	stateAt   time.Duration
	healthAt  time.Duration
}

// reception is what about a receiver is worth a state at once.
type reception struct {
	connected bool
	levelled  bool   // every step has been measured
	away      string // the order that keeps it off its plan
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
		now := r.agent.clock.Elapsed()
		r.reportInfo(ctx)
		r.reportState(ctx, now)
		r.reportHealth(ctx, now)
		if err := r.agent.tellLeftOut(ctx, false); err != nil {
			r.log.WarnContext(ctx, "an account is not stored", "error", err)
		}
		select {
		case <-ctx.Done():
			stopped := condition{"stopped", "the agent was stopped", r.agent.clock.Elapsed()}
			r.publishState(context.WithoutCancel(ctx), stopped)
			return
		case <-tick.C:
		}
	}
}

func (r *reporter) reportInfo(ctx context.Context) {
	info, err := json.Marshal(r.agent.info())
	if err != nil {
		r.log.ErrorContext(ctx, "cannot encode the station's description", "error", err)
		return
	}
	if !bytes.Equal(info, r.info) {
		r.info = info
		r.agent.network.setInfo(info)
	}
}

func (r *reporter) reportState(ctx context.Context, now time.Duration) {
	is := r.agent.condition()
	receivers := map[string]reception{}
	for _, rx := range r.agent.receivers {
		receivers[rx.cfg.ID] = receptionOf(rx.survey.State())
	}
	if is == r.condition && maps.Equal(receivers, r.receivers) && !r.due(r.stateAt, now) {
		return
	}
	r.condition, r.receivers, r.stateAt = is, receivers, now
	r.publishState(ctx, is)
}

func receptionOf(s protocol.ReceiverState) reception {
	levelled := len(s.Steps) > 0
	for _, step := range s.Steps {
		levelled = levelled && step.PowerDBFS != nil
	}
	away := ""
	if s.Away != nil {
		away = s.Away.Order
	}
	return reception{s.Connected, levelled, away}
}

func (r *reporter) reportHealth(ctx context.Context, now time.Duration) {
	if !r.due(r.healthAt, now) {
		return
	}
	r.healthAt = now
	if err := r.agent.publisher.Queue(ctx, r.agent.health()); err != nil {
		r.log.WarnContext(ctx, "cannot store the station's health", "error", err)
	}
}

// due tells whether it is time, for the first time or again.
func (r *reporter) due(last, now time.Duration) bool {
	return last == 0 || now-last >= r.agent.reportEvery()
}

func (r *reporter) publishState(ctx context.Context, is condition) {
	text, err := encodeState(r.agent.state(is))
	if err != nil {
		r.log.ErrorContext(ctx, "cannot encode the station's state", "error", err)
		return
	}
	r.agent.network.setState(text)
	r.agent.notifier.Status(r.agent.summary(is))
}
