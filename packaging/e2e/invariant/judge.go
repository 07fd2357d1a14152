package invariant

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

// enoughSaved is the least median share of intact records that has to come out of damaged spools.
const enoughSaved = 0.95

// Judge compares what was given with what became of it.
func Judge(w World) *Report {
	report := &Report{Stations: map[string]*Tally{}}
	var saved []float64
	for _, s := range w.Stations {
		t := newTrial(s, w, report)
		t.match()
		t.checkRows()
		t.checkRecords()
		t.checkReuse()
		t.checkNumbers()
		t.checkGaps()
		t.checkOrder()
		t.checkLedgers()
		t.checkAcks()
		saved = append(saved, t.saved()...)
	}
	if median := medianOf(saved); len(saved) > 0 && median < enoughSaved {
		report.Findings = append(report.Findings, Finding{
			Fault: Unsaved, Station: "all", Text: fmt.Sprintf("median share %.3f of %d damaged spools, want %.2f", median, len(saved), enoughSaved),
		})
	}
	return report
}

// record is a record that was given, and what is known of it.
type record struct {
	*oracle.Record
	agent    int
	promised bool
	rows     []int // of the station, that hold it
}

func (r *record) number() Number { return Number{r.Spool, r.Seq} }

// trial judges one station.
type trial struct {
	Station
	report   *Report
	tally    *Tally
	rows     []Row
	rejected []Rejected
	ledgers  []Ledger
	acks     []Ack

	records []record
	owner   []int            // of each row: index of its record, -1 for none
	byRow   map[Number][]int // rows under a number
	byTaken map[Number][]int // records that got a number
	held    map[[sha256.Size]byte]bool
	refused map[Number]bool
}

func newTrial(s Station, w World, report *Report) *trial {
	t := &trial{
		Station: s, report: report, tally: &Tally{Declared: map[string]int{}},
		byRow: map[Number][]int{}, byTaken: map[Number][]int{}, held: map[[sha256.Size]byte]bool{}, refused: map[Number]bool{},
	}
	report.Stations[s.ID] = t.tally
	mine := func(station string) bool { return station == s.ID }
	t.rows = only(w.Rows, func(r Row) bool { return mine(r.Station) })
	t.rejected = only(w.Rejected, func(r Rejected) bool { return mine(r.Station) })
	t.ledgers = only(w.Ledgers, func(l Ledger) bool { return mine(l.Station) })
	t.acks = only(w.Acks, func(a Ack) bool { return mine(a.Station) })
	for i, agent := range s.Agents {
		for j := range agent.Log.Records {
			t.records = append(t.records, record{Record: &agent.Log.Records[j], agent: i})
		}
		for _, h := range agent.Held {
			t.held[sha256.Sum256(h.Payload)] = true
		}
		t.tally.Held += len(agent.Held)
	}
	t.tally.Given, t.tally.Rejected = len(t.records), len(t.rejected)
	for _, r := range t.rejected {
		t.refused[r.Number] = true
	}
	return t
}

func only[T any](all []T, wanted func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !wanted(v) })
}

func (t *trial) find(f Fault, n Number, format string, args ...any) {
	t.report.Findings = append(t.report.Findings, Finding{f, t.ID, n, fmt.Sprintf(format, args...)})
}

// match finds out which rows hold which record, whatever their number, and what is promised.
func (t *trial) match() {
	type moment struct {
		kind protocol.Kind
		time int64
	}
	at := map[moment][]int{}
	t.owner = make([]int, len(t.rows))
	for i, row := range t.rows {
		t.owner[i] = -1
		t.byRow[row.Number] = append(t.byRow[row.Number], i)
		at[moment{row.Kind, row.Time}] = append(at[moment{row.Kind, row.Time}], i)
	}
	for i := range t.records {
		r := &t.records[i]
		if r.Taken > 0 {
			t.byTaken[r.number()] = append(t.byTaken[r.number()], i)
			r.promised = r.Put || t.committedAt(r) > 0
		}
		if !r.promised {
			t.tally.Unknown++
		}
	}
	// Two records may look the same: who got the number comes first, then who has no row yet, then repeats.
	claim := func(i, row int) {
		if r := &t.records[i]; t.owner[row] < 0 && digest(r.Payload, t.rows[row].Number) == t.rows[row].Digest &&
			r.Kind == t.rows[row].Kind && timeOf(r.Payload) == t.rows[row].Time {
			t.owner[row] = i
			r.rows = append(r.rows, row)
		}
	}
	for i := range t.records {
		for _, row := range t.byRow[t.records[i].number()] {
			if len(t.records[i].rows) == 0 {
				claim(i, row)
			}
		}
	}
	for _, again := range []bool{false, true} {
		for i := range t.records {
			r := &t.records[i]
			for _, row := range at[moment{r.Kind, timeOf(r.Payload)}] {
				if again || len(r.rows) == 0 {
					claim(i, row)
				}
			}
		}
	}
}

// committedAt is the line of the first commit that made a record durable; 0 for none.
func (t *trial) committedAt(r *record) int {
	commits := t.Agents[r.agent].Log.Commits
	from, _ := slices.BinarySearchFunc(commits, r.Line, func(c oracle.Committed, line int) int { return c.Line - line })
	for _, c := range commits[from:] {
		if c.Process != r.Process {
			return 0
		}
		if c.Spool == r.Spool && c.Seq >= r.Seq {
			return c.Line
		}
	}
	return 0
}

// checkRows looks for rows that are there twice, and for those that nobody gave.
func (t *trial) checkRows() {
	for n, rows := range t.byRow {
		if len(rows) > 1 {
			t.find(Duplicate, n, "%d rows", len(rows))
		}
	}
	for i, row := range t.rows {
		switch {
		case t.owner[i] >= 0:
		case row.Gap != nil && ownReason(row.Gap.Reason):
			t.tally.OwnGaps++
		case len(t.byTaken[row.Number]) > 0:
			t.find(Forged, row.Number, "a %s that is not what was given under this number", row.Kind)
		default:
			t.find(Invented, row.Number, "a %s that no oracle knows", row.Kind)
		}
	}
}

// ownReason tells whether a spool declares this by itself.
func ownReason(reason string) bool {
	return slices.Contains([]string{"quota", "disk_full", "corrupt", "spool_lost", "conflict", "refused"}, reason)
}

// checkRecords looks for each promised record.
func (t *trial) checkRecords() {
	declared := t.declarations()
	for i := range t.records {
		r := &t.records[i]
		switch {
		case len(r.rows) > 0:
			t.stored(r)
		case !r.promised:
		case t.held[sha256.Sum256(r.Payload)], t.refused[r.number()]:
		default:
			t.lost(r, declared)
		}
	}
}

func (t *trial) stored(r *record) {
	t.tally.Stored++
	if r.Taken > 0 && t.rows[r.rows[0]].Number != r.number() {
		t.tally.Moved++
	}
	if len(r.rows) == 1 || len(t.byRow[t.rows[r.rows[0]].Number]) > 1 {
		return
	}
	if t.Policy.Cloned || t.Policy.Damaged {
		t.tally.Doubled++
		return
	}
	t.find(Duplicate, t.rows[r.rows[1]].Number, "the %s is also %x-%d", r.Kind, t.rows[r.rows[0]].Spool, t.rows[r.rows[0]].Seq)
}

// lost judges a promised record that is in no table and no spool.
func (t *trial) lost(r *record, declared map[string]map[Identity]protocol.Ranges) {
	for reason, spools := range declared {
		if reason != "conflict" && spools[r.Spool].Contains(r.Seq) {
			t.tally.Declared[reason]++
			return
		}
	}
	switch {
	case t.Policy.Damaged && t.spoolForgotten(r.Spool):
		t.tally.Declared["spool_lost"]++
	case t.Policy.Damaged && t.shadowed(r):
		t.tally.Shadowed++
	case declared["conflict"][r.Spool].Contains(r.Seq):
		t.find(Missing, r.number(), "the %s was to be moved to another number, and is under none", r.Kind)
	default:
		t.find(Missing, r.number(), "the %s was on disk, and is nowhere", r.Kind)
	}
}

// declarations are the numbers that Gap records name, by reason, stored or on their way.
func (t *trial) declarations() map[string]map[Identity]protocol.Ranges {
	all := map[string]map[Identity]protocol.Ranges{}
	declare := func(g *Gap) {
		if g == nil {
			return
		}
		if all[g.Reason] == nil {
			all[g.Reason] = map[Identity]protocol.Ranges{}
		}
		all[g.Reason][g.Spool] = all[g.Reason][g.Spool].Union(g.Ranges)
	}
	for _, row := range t.rows {
		declare(row.Gap)
	}
	for _, agent := range t.Agents {
		for _, h := range agent.Held {
			declare(h.Gap)
		}
	}
	return all
}

// spoolForgotten tells whether a Gap says that a whole file went, so that not even its identity is known, and this may be it.
func (t *trial) spoolForgotten(spool Identity) bool {
	for _, row := range t.rows {
		if row.Gap != nil && row.Gap.Reason == "spool_lost" && row.Gap.Ranges.Empty() && row.Spool != spool {
			return true
		}
	}
	return false
}

// shadowed tells whether the number of a record was given again later, by a spool that fell back to an older state.
func (t *trial) shadowed(r *record) bool {
	for _, i := range t.byTaken[r.number()] {
		if other := t.records[i]; other.agent == r.agent && other.Line > r.Line {
			return true
		}
	}
	return false
}

// checkReuse looks for numbers that were given again though the first record was on disk.
func (t *trial) checkReuse() {
	if t.Policy.Cloned || t.Policy.Damaged {
		return // an older state of a spool gives its numbers again; the collector has to notice
	}
	for n, records := range t.byTaken {
		for i, first := range records {
			if !t.records[first].promised {
				continue
			}
			for _, later := range records[i+1:] {
				if t.records[later].agent == t.records[first].agent {
					t.find(Reused, n, "given to a %s and then to a %s", t.records[first].Kind, t.records[later].Kind)
				}
			}
		}
	}
}

// checkNumbers looks for numbers that nothing accounts for.
func (t *trial) checkNumbers() {
	settled, highest := map[Identity]protocol.Ranges{}, map[Identity]uint64{}
	settle := func(spool Identity, ranges protocol.Ranges) {
		settled[spool] = settled[spool].Union(ranges)
		highest[spool] = max(highest[spool], ranges.Last())
	}
	sets := map[Identity]*protocol.Ranges{}
	add := func(n Number) {
		if sets[n.Spool] == nil {
			sets[n.Spool] = &protocol.Ranges{}
		}
		sets[n.Spool].Add(n.Seq)
	}
	numbers := make([]Number, 0, len(t.rows))
	for _, row := range t.rows {
		numbers = append(numbers, row.Number)
		if row.Gap != nil {
			settle(row.Gap.Spool, row.Gap.Ranges)
		}
	}
	for _, r := range t.rejected {
		numbers = append(numbers, r.Number)
	}
	for _, agent := range t.Agents {
		for _, h := range agent.Held {
			numbers = append(numbers, h.Number)
			if h.Gap != nil {
				settle(h.Gap.Spool, h.Gap.Ranges)
			}
		}
		for _, c := range agent.Log.Commits {
			if !t.Policy.Damaged || !t.spoolForgotten(c.Spool) {
				highest[c.Spool] = max(highest[c.Spool], c.Seq)
			}
		}
	}
	slices.SortFunc(numbers, func(a, b Number) int { return int(min(max(int64(a.Seq)-int64(b.Seq), -1), 1)) })
	for _, n := range numbers {
		add(n)
	}
	for spool, set := range sets {
		settle(spool, *set)
	}
	for spool, last := range highest {
		if last == 0 {
			continue
		}
		if holes := (protocol.Ranges{{From: 1, To: last}}).Subtract(settled[spool]); !holes.Empty() {
			t.find(Hole, Number{spool, holes.First()}, "%d numbers of %d are nowhere: %s", holes.Count(), last, holes.Head(10))
		}
	}
}

// checkLedgers compares the collector's own account with its tables.
func (t *trial) checkLedgers() {
	stored, refused, gapped := map[Identity]protocol.Ranges{}, map[Identity]protocol.Ranges{}, map[Identity]protocol.Ranges{}
	collect := func(into map[Identity]protocol.Ranges, numbers []Number) {
		by := map[Identity][]protocol.Range{}
		for _, n := range numbers {
			by[n.Spool] = append(by[n.Spool], protocol.Range{From: n.Seq, To: n.Seq})
		}
		for spool, list := range by {
			into[spool] = protocol.NewRanges(list...)
		}
	}
	rows, rejected := make([]Number, 0, len(t.rows)), make([]Number, 0, len(t.rejected))
	for _, row := range t.rows {
		rows = append(rows, row.Number)
		if row.Gap != nil {
			gapped[row.Gap.Spool] = gapped[row.Gap.Spool].Union(row.Gap.Ranges)
		}
	}
	for _, r := range t.rejected {
		rejected = append(rejected, r.Number)
	}
	collect(stored, rows)
	collect(refused, rejected)
	known := map[Identity]bool{}
	for _, l := range t.ledgers {
		known[l.Spool] = true
		differ := func(what string, has, want protocol.Ranges) {
			if extra, lacks := has.Subtract(want), want.Subtract(has); !extra.Empty() || !lacks.Empty() {
				t.find(BadLedger, Number{Spool: l.Spool}, "%x %s: the ledger has %s too many and lacks %s", l.Spool, what, extra.Head(10), lacks.Head(10))
			}
		}
		differ("received", l.Received.Subtract(l.Released), stored[l.Spool])
		differ("rejected", l.Rejected, refused[l.Spool])
		differ("gapped", l.Gapped, gapped[l.Spool].Subtract(l.Received).Subtract(l.Rejected))
	}
	for spool := range stored {
		if !known[spool] {
			t.find(BadLedger, Number{Spool: spool}, "%x has rows and no ledger", spool)
		}
	}
}

// checkAcks looks for acknowledgements of what was not stored.
func (t *trial) checkAcks() {
	settled := map[Identity]protocol.Ranges{}
	for _, l := range t.ledgers {
		settled[l.Spool] = l.Received.Union(l.Rejected).Union(l.Gapped)
	}
	for _, a := range t.acks {
		if over := a.Settled.Subtract(settled[a.Spool]); !over.Empty() {
			t.find(Early, Number{a.Spool, over.First()}, "acknowledged and never settled: %s", over.Head(10))
		} else if !a.Unproven.Empty() {
			t.find(Early, Number{a.Spool, a.Unproven.First()}, "acknowledged before it was stored: %s", a.Unproven.Head(10))
		}
	}
}

// saved is the share of intact records that came out of each damaged spool. What was there until the next damage came out.
func (t *trial) saved() []float64 {
	found := map[[sha256.Size]byte]bool{}
	for i := range t.records {
		if r := &t.records[i]; len(r.rows) > 0 {
			found[sha256.Sum256(r.Payload)] = true
		}
	}
	for i, d := range t.Damages {
		later := map[[sha256.Size]byte]bool{}
		if i+1 < len(t.Damages) {
			for _, payload := range t.Damages[i+1].Held {
				later[sha256.Sum256(payload)] = true
			}
		}
		n := 0
		for _, payload := range d.Intact {
			if sum := sha256.Sum256(payload); found[sum] || t.held[sum] || later[sum] {
				n++
			}
		}
		if len(d.Intact) > 0 {
			t.tally.Saved = append(t.tally.Saved, float64(n)/float64(len(d.Intact)))
		}
	}
	return t.tally.Saved
}

func medianOf(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// fieldTime is the number of an encoded record's time.
const fieldTime = 4

// digest is that of a record under a number, as the collector stores it; none of what cannot be decoded.
func digest(payload []byte, n Number) [8]byte {
	rec, err := protocol.Decode(protocol.Seal(payload, n.Spool, n.Seq))
	if err != nil {
		return [8]byte{}
	}
	return protocol.Digest(rec)
}

// timeOf is the time that an encoded record states, in ns.
func timeOf(payload []byte) int64 {
	for b := payload; len(b) > 0; {
		num, typ, size := protowire.ConsumeField(b)
		if size <= 0 {
			return 0
		}
		if num == fieldTime && typ == protowire.Fixed64Type && size == 9 {
			return int64(binary.LittleEndian.Uint64(b[1:]))
		}
		b = b[size:]
	}
	return 0
}
