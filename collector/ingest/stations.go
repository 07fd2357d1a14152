package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const saveRetry = time.Second

// saveKey names one thing that a station says of itself.
type saveKey struct {
	station string
	class   protocol.TopicClass
}

// save is one such thing, on its way to the database.
type save struct {
	key saveKey
	do  func(context.Context, Stations) error
}

func saveStatus(station string, online bool, at time.Time) save {
	return save{saveKey{station, protocol.TopicStatus}, func(ctx context.Context, s Stations) error {
		return s.SaveStatus(ctx, station, online, at)
	}}
}

func saveInfo(station string, info *protocol.Info, at time.Time) save {
	return save{saveKey{station, protocol.TopicInfo}, func(ctx context.Context, s Stations) error {
		return s.SaveInfo(ctx, station, info, at)
	}}
}

func saveState(station string, state *protocol.State, at time.Time) save {
	return save{saveKey{station, protocol.TopicState}, func(ctx context.Context, s Stations) error {
		return s.SaveState(ctx, station, state, at)
	}}
}

// saveBoard holds the newest of each until it is saved: at most three a station.
type saveBoard struct {
	// wake says that there is something to save. Capacity 1: one notice is as good as many.
	wake chan struct{}

	mu      sync.Mutex // guards the two below
	pending map[saveKey]save
	order   []saveKey // in which they came
}

func newSaveBoard() *saveBoard {
	return &saveBoard{wake: make(chan struct{}, 1), pending: make(map[saveKey]save)}
}

func (b *saveBoard) put(s save) {
	b.mu.Lock()
	if _, ok := b.pending[s.key]; !ok {
		b.order = append(b.order, s.key)
	}
	b.pending[s.key] = s
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *saveBoard) take() (save, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order) == 0 {
		return save{}, false
	}
	key := b.order[0]
	b.order = b.order[1:]
	s := b.pending[key]
	delete(b.pending, key)
	return s, true
}

// putBack keeps what could not be saved, unless something newer has come.
func (b *saveBoard) putBack(s save) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.pending[s.key]; !ok {
		b.order = append(b.order, s.key)
		b.pending[s.key] = s
	}
}

// saveStations saves what stations say of themselves, as it comes.
func (g *Ingest) saveStations(ctx context.Context) {
	for {
		var retry <-chan time.Time
		if !g.savePending(ctx) {
			retry = time.After(saveRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.saves.wake:
		case <-retry:
		}
	}
}

// savePending tells whether all could be saved.
func (g *Ingest) savePending(ctx context.Context) bool {
	for {
		s, ok := g.saves.take()
		if !ok {
			return true
		}
		err := s.do(ctx, g.cfg.Stations)
		switch {
		case err == nil:
		case refused(err):
			g.cfg.Log.WarnContext(ctx, "the database refuses what a station says of itself", "station", s.key.station, "error", err)
		default:
			g.cfg.Log.DebugContext(ctx, "cannot save what a station says of itself, trying again", "station", s.key.station, "error", err)
			g.saves.putBack(s)
			return false
		}
	}
}
