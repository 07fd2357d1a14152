package acquisition

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// scan looks after everything that is not settled: issues what this process has not issued yet, finishes and expires
// stations, and updates the progress. It tells whether there was anything.
func (c *Conductor) scan(ctx context.Context) bool {
	list, err := c.cfg.Store.UnsettledAcquisitions(ctx)
	if err == nil && c.adopt(ctx, list) {
		list, err = c.cfg.Store.UnsettledAcquisitions(ctx)
	}
	if err != nil {
		c.cfg.Log.DebugContext(ctx, "cannot read the unsettled acquisitions, trying again", "error", err)
		return true
	}
	now := c.cfg.Now()
	returned := c.takeReturned()
	c.listen(ctx, list, now)
	// What matters most goes out first.
	slices.SortStableFunc(list, func(a, b *protocol.Acquisition) int { return cmp.Compare(b.Request.Priority, a.Request.Priority) })
	var issued []event
	var untidy []string
	for _, a := range list {
		c.offer(a)
		if age(a, now) > adoptAfter || c.known(a.ID) {
			if e := c.issue(ctx, a, c.unissued(a.ID, due(a, now), returned)); e != nil {
				issued = append(issued, *e)
			}
		}
		c.forget(a)
		progress := a.Progress
		if c.tidy(a, now) || a.Progress >= progress+1 {
			untidy = append(untidy, a.ID)
		}
	}
	c.apply(ctx, issued)
	c.update(ctx, untidy, func(a *protocol.Acquisition) bool {
		c.tidy(a, now)
		return true
	})
	c.clear(list)
	return len(list) > 0
}

func (c *Conductor) takeReturned() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	returned := c.returned
	c.returned = make(map[string]bool)
	return returned
}

// adopt takes up acquisitions that another process began, or this one before it was started again. It tells whether there
// were any.
func (c *Conductor) adopt(ctx context.Context, list []*protocol.Acquisition) bool {
	now := c.cfg.Now()
	var orphans []*protocol.Acquisition
	first := false
	c.mu.Lock()
	for _, a := range list {
		known := c.issued[a.ID] != nil
		if known && !c.behind[a.ID] || age(a, now) <= adoptAfter {
			continue
		}
		if !known {
			c.issued[a.ID], first = make(orders), true
		}
		orphans = append(orphans, a)
		for _, s := range a.Stations {
			if _, ok := c.heard[s.Station]; !ok {
				c.heard[s.Station] = now // nobody knows when it was heard last: it gets the whole time again
			}
		}
	}
	c.mu.Unlock()
	if len(orphans) == 0 {
		return false
	}
	err := c.catchUp(ctx, orphans)
	if err != nil && first {
		c.cfg.Log.WarnContext(ctx, "cannot read the replies to acquisitions, trying again", "acquisitions", len(orphans), "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range orphans {
		if err != nil {
			c.behind[a.ID] = true
		} else {
			delete(c.behind, a.ID)
		}
	}
	return true
}

// known tells whether this process looks after an acquisition already.
func (c *Conductor) known(acquisition string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued[acquisition] != nil
}

// catchUp applies the replies that are in the store: a process that ended after their commit may have told nobody.
func (c *Conductor) catchUp(ctx context.Context, orphans []*protocol.Acquisition) error {
	filter := protocol.Filter{From: timeOf(orphans[0].Requested), Limit: 1000}
	ours := make(map[string]bool)
	for _, a := range orphans {
		ours[a.ID] = true
		if requested := timeOf(a.Requested); requested.Before(filter.From) {
			filter.From = requested
		}
		for _, s := range a.Stations {
			if !slices.Contains(filter.Stations, s.Station) {
				filter.Stations = append(filter.Stations, s.Station)
			}
		}
	}
	filter.From = filter.From.Add(-clockTolerance)
	for {
		replies, next, err := c.cfg.Store.Records(ctx, protocol.KindReply, filter)
		if err != nil {
			return err
		}
		var missed []event
		for _, r := range replies {
			if id := r.Record.GetReply().GetAcquisition(); ours[id] {
				missed = append(missed, event{kind: eventReply, acquisition: id, record: r.Record})
			}
		}
		c.apply(ctx, missed)
		if next == "" {
			return nil
		}
		filter.Cursor = next
	}
}

// clear forgets what this process knows of acquisitions that are no longer in the list.
func (c *Conductor) clear(list []*protocol.Acquisition) {
	still := make(map[string]bool, len(list))
	for _, a := range list {
		still[a.ID] = true
	}
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started(now)
	for id, commands := range c.issued {
		if still[id] || commands.newest().Add(scanEvery).After(now) { // one that began after the list was read
			continue
		}
		for command := range commands {
			c.cfg.Commander.Forget(command) // another process heard the answer
		}
		delete(c.issued, id)
		delete(c.behind, id)
	}
	c.dropStale(list, now)
	if len(list) == 0 && len(c.issued) == 0 {
		clear(c.heard)
		clear(c.chunks)
		clear(c.uploads)
	}
}

// dropStale forgets how far captures are that nobody follows any more. mu must be held.
func (c *Conductor) dropStale(list []*protocol.Acquisition, now time.Time) {
	followed := make(map[string]bool) // commands and captures
	for _, a := range list {
		for _, s := range a.Stations {
			followed[s.CommandID] = true
		}
	}
	maps.DeleteFunc(c.uploads, func(command string, u upload) bool {
		stale := !followed[command] && now.Sub(u.at) > silence
		if !stale {
			followed[u.capture] = true
		}
		return stale
	})
	maps.DeleteFunc(c.chunks, func(capture string, came arrived) bool { return !followed[capture] && now.Sub(came.last) > silence })
}

func (o orders) newest() (t time.Time) {
	for _, at := range o {
		t = later(t, at)
	}
	return t
}

// age is how long ago an acquisition was asked for.
func age(a *protocol.Acquisition, now time.Time) time.Duration { return now.Sub(timeOf(a.Requested)) }

// tidy applies what needs no event: recordings that the archive has named, stations that fell silent, and the progress.
// It tells whether a station changed.
func (c *Conductor) tidy(a *protocol.Acquisition, now time.Time) bool {
	changed := finishRecorded(a)
	if applyFailures(a, c.silent(a, now)) {
		changed = true
	}
	if now.After(expiry(a)) && dropCancels(a) {
		changed = true
	}
	summarize(a, c.uploaded)
	return changed
}

// silent lists the stations from which nothing more is to be expected.
func (c *Conductor) silent(a *protocol.Acquisition, now time.Time) []failure {
	expires := expiry(a)
	if now.Before(expires) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var silent []failure
	for _, s := range a.Stations {
		switch {
		case s.State.Settled():
		case s.State == protocol.StationQueued || s.State == protocol.StationSent:
			silent = append(silent, unanswered(&s, expires))
		case now.Sub(expires) > longestUpload:
			silent = append(silent, failure{s.Station, codeExpired, lastWord(&s, codeExpired, "it was not all here a week after "+expires.Format(time.RFC3339))})
		case c.quiet(s.Station, expires, now):
			silent = append(silent, failure{s.Station, codeExpired, lastWord(&s, codeExpired, "nothing of it came from the station for "+silence.String())})
		}
	}
	return silent
}

// quiet tells whether nothing of any acquisition came from a station for so long that what expired is given up. mu must be
// held.
func (c *Conductor) quiet(station string, expires, now time.Time) bool {
	return now.Sub(later(c.heard[station], expires)) > silence
}

// listen finds stations that are silent here and still send: over a thin link, or to another collector of the group. They
// are given the whole time again.
func (c *Conductor) listen(ctx context.Context, list []*protocol.Acquisition, now time.Time) {
	quiet := make(map[string]time.Time) // stations, and when what they owe expired, the latest of each
	c.mu.Lock()
	for _, a := range list {
		expires := expiry(a)
		if now.Before(expires) || now.Sub(expires) > longestUpload {
			continue
		}
		for _, s := range a.Stations {
			if begun := rank(s.State) > rank(protocol.StationSent) && !s.State.Settled(); begun && c.quiet(s.Station, expires, now) {
				quiet[s.Station] = later(quiet[s.Station], expires)
			}
		}
	}
	c.mu.Unlock()
	if len(quiet) == 0 {
		return
	}
	all, err := c.cfg.Stations.Stations(ctx)
	if err != nil {
		c.cfg.Log.WarnContext(ctx, "cannot read which stations still send", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		if expires, ok := quiet[s.ID]; ok && stillSends(s, expires, now) {
			c.heard[s.ID] = now
		}
	}
}

// stillSends tells whether a station that lives says that it holds records from before a time: then pieces of a capture may
// be among them.
func stillSends(s protocol.Station, before, now time.Time) bool {
	if now.Sub(timeOf(s.LastSeen)) > silence || s.Delivery == nil || s.Delivery.Backlog == 0 {
		return false
	}
	age := time.Duration(min(max(s.Delivery.BacklogAgeS, 0), 1e9) * float64(time.Second))
	return !now.Add(-age).After(before)
}

// unanswered is why a station has not begun.
func unanswered(s *protocol.AcquisitionStation, expires time.Time) failure {
	at := expires.Format(time.RFC3339)
	switch s.ReasonCode {
	case codeOffline:
		return failure{s.Station, codeOffline, "the station was not connected, and did not answer before " + at}
	case codeNotSent:
		return failure{s.Station, codeNotSent, s.Message}
	}
	return failure{s.Station, codeExpired, lastWord(s, codeExpired, "the station did not answer before "+at)}
}
