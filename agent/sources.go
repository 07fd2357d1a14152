package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/fulgidus/heimdall/agent/radio"
)

// examine looks into the recordings and scenes that the sources name, and tries the plans on them. The error lists what
// will not mend itself, a fault a line; what may mend itself is left to those who try again. Receivers are not opened here:
// they, and those who listen to them, would mind.
func (c Config) examine(ctx context.Context) error {
	var all []error
	for _, r := range c.Receivers {
		for _, f := range r.faults(ctx) {
			all = append(all, fmt.Errorf("receiver %s: %w", r.ID, f))
		}
	}
	return errors.Join(all...)
}

// faults are those that the receiver's source has, or its plan with that source.
func (r ReceiverConfig) faults(ctx context.Context) []*radio.Fault {
	rx, err := radio.Open(r.source(), radio.Options{})
	if err != nil {
		return radio.Faults(err)
	}
	defer rx.Close()
	if !radio.Recorded(r.Source) {
		return nil
	}
	if _, err := rx.Open(ctx); err != nil {
		return radio.Faults(err)
	}
	var all []*radio.Fault
	for _, step := range r.plan() {
		all = append(all, radio.Faults(rx.Tune(ctx, radio.Tuning{CenterHz: step.CenterHz, SampleRateHz: step.RateHz}))...)
	}
	return all
}
