package invariant

import (
	"slices"
	"time"

	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	// mostOverhead is what a record may weigh in a spool beside its payload: key, index, kind, time, checksum.
	mostOverhead = 96
	// shedDelay is how long after the time that a Gap states its records may still have been on their way out.
	shedDelay = time.Second
)

// checkGaps looks for Gaps that the station had no cause for, or that say another amount than they name, and for refusals.
func (t *trial) checkGaps() {
	for _, row := range t.rows {
		if row.Gap == nil || row.Gap.Ranges.Empty() {
			continue
		}
		if !t.Policy.allows(row.Gap.Reason) {
			t.find(Undeserved, row.Number, "%d records declared lost, %s: %x %s", row.Gap.Ranges.Count(), row.Gap.Reason, row.Gap.Spool, row.Gap.Ranges.Head(10))
		}
	}
	for _, r := range t.rejected {
		if !t.Policy.Skewed {
			t.find(Refused, r.Number, "%s", r.Reason)
		}
	}
	if t.Policy.Full {
		t.checkSums()
	}
}

func (p Policy) allows(reason string) bool {
	switch reason {
	case "quota", "disk_full":
		return p.Full
	case "corrupt", "spool_lost":
		return p.Damaged
	case "conflict":
		return p.Cloned || p.Damaged // a damaged spool may fall back to an older state, and give numbers again
	}
	return false
}

// checkSums compares what Gaps say with what they name. One loss may take several Gaps, of which only the last tells the
// amount, so neighbours of a kind are summed.
func (t *trial) checkSums() {
	type key struct {
		spool        Identity
		lane, reason string
	}
	type sum struct {
		ranges         protocol.Ranges
		named          uint64
		records, bytes uint64
		at             Number
	}
	sums := map[key]*sum{}
	for _, row := range t.rows {
		g := row.Gap
		if g == nil || g.Reason != "quota" && g.Reason != "disk_full" {
			continue
		}
		k := key{g.Spool, g.Lane, g.Reason}
		if sums[k] == nil {
			sums[k] = &sum{at: row.Number}
		}
		s := sums[k]
		s.ranges = s.ranges.Union(g.Ranges)
		s.named += g.Ranges.Count()
		s.records += g.Records
		s.bytes += g.Bytes
	}
	for k, s := range sums {
		if s.named != s.ranges.Count() {
			t.find(WrongSum, s.at, "%s %s: some numbers are named twice", k.lane, k.reason)
		}
		if s.records != s.named {
			t.find(WrongSum, s.at, "%s %s: %d records declared, %d named", k.lane, k.reason, s.records, s.named)
		}
		payload, known := t.weigh(k.spool, k.lane, s.ranges)
		if s.bytes < payload || known == s.named && s.bytes > payload+known*mostOverhead {
			t.find(WrongSum, s.at, "%s %s: %d bytes declared, %d records of %d bytes named", k.lane, k.reason, s.bytes, s.named, payload)
		}
	}
}

// weigh is how many of some numbers the oracle knows for sure, and the bytes of their payloads.
func (t *trial) weigh(spool Identity, lane string, ranges protocol.Ranges) (bytes, known uint64) {
	for _, r := range ranges {
		for seq := r.From; seq <= r.To; seq++ {
			n := Number{spool, seq}
			for _, i := range t.byTaken[n] {
				record := &t.records[i]
				if !record.promised {
					continue
				}
				if string(record.Kind) != lane {
					t.find(WrongOrder, n, "a %s is named as lost from the lane %s", record.Kind, lane)
				}
				known++
				bytes += uint64(len(record.Payload))
				break
			}
		}
	}
	return bytes, known
}

// classOf is what goes first when a station has no room; -1 never goes.
func classOf(kind string) int {
	return slices.IndexFunc([][]string{{"iq"}, {"spectrum"}, {"measurement", "detection", "health"}}, func(class []string) bool {
		return slices.Contains(class, kind)
	})
}

// checkOrder looks for records that were given up for want of room while a less valuable or an older one lay in the same
// spool. One that was on disk before the commit of the Gap, and arrived well after the time that it states, did; unless it was
// given up itself, and came all the same because it was under way.
func (t *trial) checkOrder() {
	if !t.Policy.Full {
		return
	}
	declared := t.declarations()
	for _, row := range t.rows {
		g := row.Gap
		if g == nil || g.Reason != "quota" || g.Ranges.Empty() {
			continue
		}
		class := classOf(g.Lane)
		if class < 0 {
			t.find(WrongOrder, row.Number, "the lane %s never goes", g.Lane)
			continue
		}
		for i := range t.records {
			r := &t.records[i]
			if len(r.rows) == 0 || !r.promised || r.Spool != g.Spool || row.Spool != g.Spool {
				continue
			}
			stored := t.rows[r.rows[0]]
			other := classOf(string(r.Kind))
			sooner := other >= 0 && (other < class || other == class && r.Seq < g.Ranges.First())
			givenUp := declared["quota"][r.Spool].Contains(r.Seq) || declared["disk_full"][r.Spool].Contains(r.Seq)
			if !sooner || givenUp || !stored.Received.After(time.Unix(0, row.Time).Add(shedDelay)) {
				continue
			}
			if at := t.committedAt(r); at > 0 && at < t.gapCommittedAt(r.agent, row.Number) {
				t.find(WrongOrder, row.Number, "a %s was given up while the %s %d was there", g.Lane, r.Kind, r.Seq)
				break
			}
		}
	}
}

// gapCommittedAt is the line of the first commit that reached a Gap's own number; 0 for none.
func (t *trial) gapCommittedAt(agent int, n Number) int {
	commits := t.Agents[agent].Log.Commits
	i := slices.IndexFunc(commits, func(c oracle.Committed) bool { return c.Spool == n.Spool && c.Seq >= n.Seq })
	if i < 0 {
		return 0
	}
	return commits[i].Line
}
