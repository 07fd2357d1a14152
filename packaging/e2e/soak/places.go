package soak

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
)

// patience is how long a program may take to come to a place; one that does not is killed where it is.
const patience = 2500 * time.Millisecond

// Places ends both programs at every place that their sources mark, the first, second or third time that they come by, as
// hits says. Stations of different fates go there together, so that places on the way of a full, a damaged and a capturing
// spool are met. The summary counts how often each place was: "at PLACE".
func Places(ctx context.Context, o Options, hits []int) (*Summary, error) {
	o.Faults = []string{"captures", "damage", "full"}
	const again = "HEIMDALL_PLACES=all go test -v -run TestPlaces ./packaging/e2e/soak"
	return run(ctx, o, again, func(w *world, ctx context.Context) error { return w.visit(ctx, hits) })
}

func (w *world) visit(ctx context.Context, hits []int) error {
	ordering, stop := context.WithCancel(ctx)
	var aside, programs sync.WaitGroup
	var orderErr error
	aside.Go(func() { orderErr = w.orderCaptures(ordering) })
	for _, s := range w.stations {
		if s.policy.Full {
			s.agents[0].link.Set(proxy.Faults{Refuse: true}) // so that its spool fills
		}
	}
	errs := make([]error, len(w.stations)+len(w.collectors))
	for i, s := range w.stations {
		programs.Go(func() { errs[i] = w.visitAs(ctx, s, hits) })
	}
	for i, c := range w.collectors {
		programs.Go(func() {
			for _, l := range livesAt(w.collectorPlaces, hits) {
				errs[len(w.stations)+i] = errors.Join(errs[len(w.stations)+i], w.live(ctx, &c.child, "collector", l, func() bool { return false }))
			}
		})
	}
	programs.Wait()
	stop()
	aside.Wait()
	return errors.Join(append(errs, orderErr)...)
}

// visitAs sends the agent of one station to every place.
func (w *world) visitAs(ctx context.Context, s *station, hits []int) error {
	r := sequence(w.options.Seed, s.id)
	for _, l := range livesAt(w.agentPlaces, hits) {
		if s.policy.Damaged {
			if _, err := w.hurt(ctx, s.agents[0], r); err != nil {
				return err
			}
		}
		if err := w.liveAgent(ctx, s.agents[0], l); err != nil {
			return err
		}
	}
	return nil
}

func livesAt(places []string, hits []int) (lives []life) {
	for _, hit := range hits {
		for _, place := range places {
			lives = append(lives, life{lasts: patience, ending: byFailpoint, failpoint: fmt.Sprintf("%s:%d", place, hit)})
		}
	}
	return lives
}

// Unseen are the places that a run did not come by.
func (s *Summary) Unseen(module string) (unseen []string, all int, err error) {
	for _, part := range []string{"agent", "collector"} {
		places, err := failpoints(module + "/" + part)
		if err != nil {
			return nil, 0, err
		}
		all += len(places)
		for _, place := range places {
			if s.Counts["at "+place] == 0 {
				unseen = append(unseen, place)
			}
		}
	}
	return unseen, all, nil
}
