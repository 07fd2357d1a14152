package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/packaging/proxy"
)

const (
	// patience is how long a program may take to come to a place; one that does not is killed where it is.
	patience = 2500 * time.Millisecond
	// longPatience is for what comes by seldom.
	longPatience = 6 * time.Second
	// attempts are how often a station goes to a place of its own that it may miss.
	attempts = 4
)

// Places that not every agent comes by, for the one station that does. It passes them once in a life, whatever the hits.
var (
	// replacing are in the order in which the ends of an agent that replaces a damaged spool lead from one to the next.
	replacing = []string{"spool.upgrade", "spool.sync_dir", "spool.ready", "spool.aside", "spool.rename", "spool.renamed"}
	// conflicting are those of an agent whose numbers another one has used.
	conflicting = []string{"spool.identity", "spool.moved"}
	// capturing are those of an agent that is asked for samples, and keeps for a second what was delivered.
	capturing = []string{"spool.segment_write", "spool.segment_synced", "spool.purge"}
)

// elsewhere are places that no run of this kind comes by: the collector is killed there by TestRetention_Places, and a spool
// is copied only when a large one is mostly free.
var elsewhere = []string{
	"archive.removed", "archive.samples", "archive.stored", "lease.renew", "retention.objects_removed", "retention.row_removed", "store.released",
	"spool.compact", "spool.copied",
}

// Places ends both programs at every place that their sources mark, the first, second or third time that they come by, as
// hits says. Stations of different fates go there together, so that places on the way of a full, a damaged, a copied and a
// capturing spool are met. The summary counts how often each place was: "at PLACE".
func Places(ctx context.Context, o Options, hits []int) (*Summary, error) {
	o.Faults = []string{"captures", "clone", "damage", "full"}
	const again = "HEIMDALL_PLACES=all go test -v -run TestPlaces ./packaging/e2e/soak"
	return run(ctx, o, again, func(w *world, ctx context.Context) error { return w.visit(ctx, hits) })
}

func (w *world) visit(ctx context.Context, hits []int) error {
	ordering, stop := context.WithCancel(ctx)
	var aside, programs sync.WaitGroup
	var orderErr, collectorErr error
	aside.Go(func() { orderErr = w.orderCaptures(ordering) })
	for _, s := range w.stations {
		if s.policy.Full {
			s.agents[0].link.Set(proxy.Faults{Refuse: true}) // so that its spool fills
		}
	}
	errs := make([]error, len(w.stations))
	for i, s := range w.stations {
		programs.Go(func() { errs[i] = w.visitAs(ctx, s, hits) })
	}
	programs.Go(func() { collectorErr = w.visitAsCollector(ctx, hits) })
	programs.Wait()
	stop()
	aside.Wait()
	return errors.Join(append(errs, orderErr, collectorErr)...)
}

// visitAsCollector sends one collector everywhere while the other works, so that agents get on.
func (w *world) visitAsCollector(ctx context.Context, hits []int) error {
	one, other := w.collectors[0], w.collectors[1]
	if err := other.start(); err != nil {
		return err
	}
	for _, l := range livesAt(without(w.collectorPlaces, elsewhere), hits) {
		if err := w.live(ctx, &one.child, "collector", l, func() bool { return false }); err != nil {
			return err
		}
	}
	return nil
}

// visitAs sends the agent of one station to its places.
func (w *world) visitAs(ctx context.Context, s *station, hits []int) error {
	a, plain := s.agents[0], life{lasts: patience, ending: byKill}
	switch {
	case s.policy.Damaged:
		r := sequence(w.options.Seed, s.id)
		return errors.Join(w.liveAgent(ctx, a, plain), w.visitOwn(ctx, a, replacing, func() error {
			_, err := w.hurt(ctx, a, r)
			return err
		}))
	case s.policy.Cloned:
		copied := s.agents[1]
		if err := errors.Join(w.liveAgent(ctx, a, plain), copyState(a.state, copied.state)); err != nil {
			return fmt.Errorf("copy the spool: %w", err)
		}
		w.count("spool_copied")
		return w.visitOwn(ctx, copied, conflicting, func() error { return w.liveAgent(ctx, a, plain) })
	}
	for _, l := range livesAt(without(w.agentPlaces, replacing, conflicting, capturing, elsewhere), hits) {
		if err := w.liveAgent(ctx, a, l); err != nil {
			return err
		}
	}
	if s.id != "captures" {
		return nil
	}
	return w.visitOwn(ctx, a, capturing, func() error { return nil })
}

// visitOwn sends an agent to the places of its station, each time after something was prepared.
func (w *world) visitOwn(ctx context.Context, a *agent, places []string, prepare func() error) error {
	for _, place := range places {
		l := life{lasts: longPatience, ending: byFailpoint, failpoint: place + ":1"}
		for tries := 0; tries < attempts && !w.happened("at "+place); tries++ {
			if err := errors.Join(prepare(), w.liveAgent(ctx, a, l)); err != nil {
				return err
			}
		}
	}
	return nil
}

func without(places []string, lists ...[]string) []string {
	left := slices.Clone(places)
	for _, list := range lists {
		left = slices.DeleteFunc(left, func(p string) bool { return slices.Contains(list, p) })
	}
	return left
}

func livesAt(places []string, hits []int) (lives []life) {
	for _, hit := range hits {
		for _, place := range places {
			lives = append(lives, life{lasts: patience, ending: byFailpoint, failpoint: fmt.Sprintf("%s:%d", place, hit)})
		}
	}
	return lives
}

// Unseen are the places that a run did not come by, of those that it can.
func (s *Summary) Unseen(module string) (unseen []string, all int, err error) {
	for _, part := range []string{"agent", "collector"} {
		places, err := failpoints(module + "/" + part)
		if err != nil {
			return nil, 0, err
		}
		places = without(places, elsewhere)
		all += len(places)
		for _, place := range places {
			if s.Counts["at "+place] == 0 {
				unseen = append(unseen, place)
			}
		}
	}
	return unseen, all, nil
}
