// Package resend asks stations to send again what this database lacks.
//
// A database that was restored from a backup knows fewer numbers than its collectors had acknowledged. Agents keep what was
// acknowledged for a while ("delivery.keep"), so as long as the backup is not older than that, all of it can be had again.
//
// A number is asked for when it should be settled by what its agent said last, and is not, and stays so for some time
// while the station is online and nothing of the spool is coming in. It is asked for three times in all, with longer and
// longer pauses. What the agent no longer has stays missing: `verify` names it.
package resend

import (
	"context"
	"encoding/hex"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulgidus/heimdall/protocol"
)

// Holes tells of each spool which numbers should be settled and are not.
type Holes interface {
	Holes(ctx context.Context) (map[protocol.Stream]protocol.Ranges, error)
}

// Stations knows the stations.
type Stations interface {
	Stations(ctx context.Context) ([]protocol.Station, error)
}

// Commander gets a command to a station, repeating it until the station replies or it expires.
type Commander interface {
	Issue(ctx context.Context, station string, c *protocol.Command) error
	Forget(id string)
}

const (
	lookEvery = 5 * time.Second
	// expiry of a command. A station's clock may be behind by some of it.
	expiry = 2 * time.Minute
	// maxRanges are asked for by one command, lowest first; the rest is asked for next time.
	maxRanges = 256
)

// patience is how long nothing must have come in before a number is asked for the first, second and third time.
func patience() [3]time.Duration {
	return [3]time.Duration{20 * time.Second, 2 * time.Minute, 10 * time.Minute}
}

// Resend watches for holes.
type Resend struct {
	holes    Holes
	stations Stations
	commands Commander
	log      *slog.Logger
	spools   map[protocol.Stream]*spool // those with holes; only Run's goroutine uses it and the next
	faults   int                        // of looks in a row
}

// spool is a spool with holes.
type spool struct {
	since   time.Time // the holes are the same, and the station online
	holes   protocol.Ranges
	asked   [3]protocol.Ranges // once or more, twice or more, three times
	command string             // the last one; empty before the first
	refused int                // how often in a row no command could be given
}

// New makes a Resend.
func New(holes Holes, stations Stations, commands Commander, log *slog.Logger) *Resend {
	return &Resend{holes: holes, stations: stations, commands: commands, log: log, spools: make(map[protocol.Stream]*spool)}
}

// Run looks for holes and asks stations to fill them until ctx ends.
func (r *Resend) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := r.look(ctx, time.Now())
		if ctx.Err() != nil {
			return nil
		}
		r.tell(ctx, err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tell logs the first of the looks in a row that failed, and their end.
func (r *Resend) tell(ctx context.Context, err error) {
	switch {
	case err == nil:
		if r.faults > 0 {
			r.log.InfoContext(ctx, "looking for what is missing again", "faults", r.faults)
		}
		r.faults = 0
		return
	case r.faults == 0:
		r.log.WarnContext(ctx, "cannot look for what is missing, trying again", "error", err)
	}
	r.faults++
}

// look takes one look, at a time that never goes back.
func (r *Resend) look(ctx context.Context, now time.Time) error {
	found, err := r.holes.Holes(ctx)
	if err != nil {
		return err
	}
	for stream, s := range r.spools {
		if found[stream].Empty() {
			r.commands.Forget(s.command)
			delete(r.spools, stream)
		}
	}
	if len(found) == 0 {
		return nil
	}
	list, err := r.stations.Stations(ctx)
	if err != nil {
		return err
	}
	online := make(map[string]bool)
	for _, s := range list {
		online[s.ID] = s.Status == protocol.Online
	}
	for stream, holes := range found {
		s := r.spools[stream]
		if s == nil {
			s = &spool{since: now, holes: holes}
			r.spools[stream] = s
		}
		if !slices.Equal(s.holes, holes) || !online[stream.Station] {
			s.since, s.holes = now, holes
			continue
		}
		r.ask(ctx, stream, s, now)
	}
	return nil
}

// due are the holes that have stood for long enough.
func (s *spool) due(now time.Time) (ask protocol.Ranges) {
	left := s.holes // and asked for so often at least
	for times, wait := range patience() {
		if now.Sub(s.since) >= wait {
			ask = ask.Union(left.Subtract(s.asked[times]))
		}
		left = left.Intersect(s.asked[times])
	}
	return ask
}

func (r *Resend) ask(ctx context.Context, stream protocol.Stream, s *spool, now time.Time) {
	ask := s.due(now).Head(maxRanges)
	if ask.Empty() {
		return
	}
	id := uuid.Must(uuid.NewV7()).String()
	r.commands.Forget(s.command)
	err := r.commands.Issue(ctx, stream.Station, &protocol.Command{
		Id: &id, Issued: new(now.UnixNano()), Expires: new(now.Add(expiry).UnixNano()),
		Order: &protocol.Command_Resend{Resend: &protocol.Resend{Spool: stream.Spool[:], Ranges: ask.Wire()}},
	})
	if err != nil {
		if s.refused == 0 {
			r.log.WarnContext(ctx, "cannot ask a station to send again what is missing here, trying again", "station", stream.Station, "error", err)
		}
		s.refused++
		return
	}
	if s.refused > 0 {
		r.log.InfoContext(ctx, "a station can be asked again for what is missing here", "station", stream.Station, "faults", s.refused)
		s.refused = 0
	}
	for times := len(s.asked) - 1; times > 0; times-- {
		s.asked[times] = s.asked[times].Union(ask.Intersect(s.asked[times-1]))
	}
	s.asked[0] = s.asked[0].Union(ask)
	s.since, s.command = now, id
	r.log.WarnContext(ctx, "numbers are missing here that the station had seen acknowledged; asking it to send them again",
		"station", stream.Station, "spool", hex.EncodeToString(stream.Spool[:]), "records", ask.Count())
}
