package radio

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// A KiwiSDR recording is a WAV file of many short frames: a kiwi chunk with the GNSS time of the frame's first sample
// (second of the week and nanosecond), then a data chunk of, usually, 512 samples. The header's rate is rounded; the
// true one follows from the stamps. First stamps are often stale, and an operator may hide all of them.

const (
	// stampTolerance is how far a stamp may lie from where the one before it puts it.
	stampTolerance = 100 * time.Microsecond
	// stampsToTrust is how many stamps must agree before they are believed.
	stampsToTrust = 4
	// maxRateError is how far the fitted rate may lie from the header's (which is rounded: 12000 for 12001.135).
	maxRateError = 200e-6
	// staleFix is the age in seconds of the last position solution from which the time is called stale.
	staleFix = 60
	// noFix and above is no age: 255 means never had a solution, 253 and 254 are errors.
	noFix = 253
	// stampFloor is the best that is claimed of a fit: stamps wander slowly by 16 to 75 ns.
	stampFloor = 50 * time.Nanosecond
)

// kiwiFrame is one frame as parsed.
type kiwiFrame struct {
	sample  int64 // of its first sample, stored samples only
	samples int64
	ns      int64 // of the GPS week
	age     uint8 // seconds since the last solution
	stamped bool
}

// kiwiRun is a run of frames whose stamps agree with one line: a time base.
type kiwiRun struct {
	stamps  stamps
	pieces  []kiwiPiece
	lastNs  int64 // unwrapped stamp of the last accepted frame
	lastAt  int64 // its sample number, losses of this run counted
	lost    int64 // samples lost inside this run so far
	before  int64 // samples lost before this run, estimated
	worst   uint8
	firstNs int64
}

// kiwiPiece is a run of frames without loss, all accepted or all refused.
type kiwiPiece struct {
	first, samples int64
	lost           int64 // before it, exact
	refused        bool
}

// kiwiParser sorts frames into runs as they come, in memory bounded by the number of gaps.
type kiwiParser struct {
	stamp    kiwiFrame // the stamp that waits for its data
	waiting  []kiwiFrame
	runs     []*kiwiRun
	periodNs float64 // nominal, from the header
	prevNs   int64   // the last stamp believed
	frames   int64
	hidden   int64 // frames without a stamp
	believed int64 // frames whose stamp was accepted
}

func (k *kiwiParser) takeStamp(b []byte) {
	if len(b) < kiwiStampSize {
		return
	}
	k.stamp = kiwiStamp(b)
}

// kiwiStamp reads a time stamp: age of the last solution, a byte unused, second of the GPS week, nanosecond.
func kiwiStamp(b []byte) kiwiFrame {
	sec, ns := binary.LittleEndian.Uint32(b[2:]), binary.LittleEndian.Uint32(b[6:])
	return kiwiFrame{
		ns:      int64(sec)*int64(time.Second) + int64(ns),
		age:     b[0],
		stamped: sec < 604800 && ns < 1e9 && b[0] < noFix && (sec != 0 || ns != 0),
	}
}

// takeData takes the samples that follow a stamp.
func (k *kiwiParser) takeData(p *wavParser, c chunk) error {
	r := p.r
	per := int64(r.format.BytesPerSample())
	if c.size%per != 0 {
		if !c.last {
			return r.fault("data chunk", fmt.Sprintf("%d bytes", c.size), "does not hold whole samples: the file is damaged; record again")
		}
		r.oddTail = true
	}
	if c.stated > c.size {
		r.note("the last frame promises %d bytes and the file holds %d: the recording was cut short", c.stated, c.size)
	}
	frame := k.stamp
	k.stamp = kiwiFrame{}
	frame.sample, frame.samples = r.stored, c.size/per
	if frame.samples == 0 {
		return nil
	}
	if k.periodNs == 0 {
		k.periodNs = 1e9 / math.Max(p.rateHz, 1)
	}
	r.addPiece(c.offset, frame.samples*per)
	r.stored += frame.samples
	k.add(frame)
	return nil
}

// add sorts a frame: to the current run when it continues it, else it waits until stampsToTrust agree.
func (k *kiwiParser) add(f kiwiFrame) {
	k.frames++
	if !f.stamped {
		k.hidden++
		k.waiting = append(k.waiting, f)
		k.trim()
		return
	}
	if len(k.runs) > 0 { // the week may have rolled over
		f.ns += int64(math.Round(float64(k.prevNs-f.ns)/float64(weekNs))) * weekNs
	}
	if len(k.waiting) == 0 && len(k.runs) > 0 {
		run := k.runs[len(k.runs)-1]
		if run.continues(f, k.periodNs) {
			k.accept(run, f)
			return
		}
	}
	k.waiting = append(k.waiting, f)
	if k.agreeing() >= stampsToTrust {
		k.settle(len(k.waiting) - stampsToTrust)
	}
	k.trim()
}

// near tells whether a stamp difference is what the samples between say, within the tolerance and 200 ppm.
func near(gotNs int64, wantNs float64) bool {
	return math.Abs(float64(gotNs)-wantNs) < float64(stampTolerance)+maxRateError*math.Abs(wantNs)
}

// agreeing counts the stamps at the end of the waiting frames that lie on one line.
func (k *kiwiParser) agreeing() int {
	n := 0
	for i := len(k.waiting) - 1; i >= 0 && k.waiting[i].stamped; i-- {
		if n > 0 {
			a, b := k.waiting[i], k.waiting[i+1]
			if !near(b.ns-a.ns, float64(b.sample-a.sample)*k.periodNs) {
				break
			}
		}
		n++
	}
	return n
}

// trim keeps the waiting frames few: a file whose stamps are all refused is one piece.
func (k *kiwiParser) trim() {
	for len(k.waiting) > 4*stampsToTrust {
		k.waiting[1].sample, k.waiting[1].samples = k.waiting[0].sample, k.waiting[0].samples+k.waiting[1].samples
		k.waiting[1].stamped = false
		k.waiting = k.waiting[1:]
	}
}

// settle ends the wait: the frames from good on are trusted; those before them are refused and take their time from
// the run before, or from this one when it is the first.
func (k *kiwiParser) settle(good int) {
	refused, trusted := k.waiting[:good], k.waiting[good:]
	k.waiting = nil
	if len(k.runs) == 0 {
		k.runs = append(k.runs, &kiwiRun{})
	}
	run := k.runs[len(k.runs)-1]
	run.refuse(refused)
	if first := trusted[0]; run.stamps.seen > 0 && !run.continues(first, k.periodNs) {
		lost, exact := run.missing(first, k.periodNs)
		if exact && len(refused) == 0 {
			run.gap(lost)
		} else {
			run = &kiwiRun{before: lost}
			k.runs = append(k.runs, run)
		}
	}
	for _, f := range trusted {
		k.accept(run, f)
	}
}

// settleLast deals with what waits at the end of the file: too few stamps to begin a time base, but two that agree
// and lie whole frames later are a plain loss.
func (k *kiwiParser) settleLast() {
	if len(k.waiting) == 0 || len(k.runs) == 0 {
		return
	}
	run := k.runs[len(k.runs)-1]
	if n := k.agreeing(); n >= 2 && n == len(k.waiting) {
		if _, exact := run.missing(k.waiting[0], k.periodNs); exact {
			k.settle(0)
			return
		}
	}
	run.refuse(k.waiting)
	k.waiting = nil
}

func (k *kiwiParser) accept(run *kiwiRun, f kiwiFrame) {
	k.believed++
	k.prevNs = f.ns
	run.accept(f)
}

// continues tells whether a frame's stamp is where the run's last one puts it.
func (r *kiwiRun) continues(f kiwiFrame, periodNs float64) bool {
	return near(f.ns-r.lastNs, float64(f.sample+r.lost-r.lastAt)*periodNs)
}

// missing is how many samples were lost before a frame by its stamp; exact when they are whole frames.
func (r *kiwiRun) missing(f kiwiFrame, periodNs float64) (samples int64, exact bool) {
	want := float64(f.sample+r.lost-r.lastAt) * periodNs
	lost := (float64(f.ns-r.lastNs) - want) / periodNs
	frames := math.Round(lost / float64(f.samples))
	whole := frames * float64(f.samples)
	if frames >= 1 && near(f.ns-r.lastNs, want+whole*periodNs) {
		return int64(whole), true
	}
	return max(0, int64(math.Round(lost))), false
}

func (r *kiwiRun) accept(f kiwiFrame) {
	at := f.sample + r.lost
	if r.stamps.seen == 0 {
		r.firstNs = f.ns
	}
	r.stamps.add(stamp{at, f.ns})
	r.lastNs, r.lastAt = f.ns, at
	r.worst = max(r.worst, f.age)
	r.extend(f, false)
}

func (r *kiwiRun) refuse(frames []kiwiFrame) {
	for _, f := range frames {
		r.extend(f, true)
	}
}

func (r *kiwiRun) extend(f kiwiFrame, refused bool) {
	if n := len(r.pieces); n > 0 && r.pieces[n-1].refused == refused && r.pieces[n-1].first+r.pieces[n-1].samples == f.sample && r.pieces[n-1].samples > 0 {
		r.pieces[n-1].samples += f.samples
		return
	}
	if n := len(r.pieces); n > 0 && r.pieces[n-1].samples == 0 {
		r.pieces[n-1].first, r.pieces[n-1].samples, r.pieces[n-1].refused = f.sample, f.samples, refused
		return
	}
	r.pieces = append(r.pieces, kiwiPiece{first: f.sample, samples: f.samples, refused: refused})
}

// gap notes samples lost before the next frame.
func (r *kiwiRun) gap(samples int64) {
	r.lost += samples
	r.pieces = append(r.pieces, kiwiPiece{lost: samples})
}

// finish turns runs into spans and dates them.
func (k *kiwiParser) finish(p *wavParser, info os.FileInfo) error {
	r := p.r
	if r.stored == 0 {
		return r.fault("data chunk", "", "missing after the kiwi chunk: the recording was cut off; record again")
	}
	k.settleLast()
	if len(k.runs) == 0 {
		return k.withoutTimes(p)
	}
	lines := make([]fitted, len(k.runs))
	for i, run := range k.runs {
		line, ok := fitLine(run.stamps.kept)
		if rate := 1e9 / line.periodNs; !ok || math.Abs(rate/r.rateHz-1) > maxRateError {
			k.believed = 0
			return k.withoutTimes(p)
		}
		lines[i] = line
	}
	date := p.facts.start
	if date.IsZero() {
		date = info.ModTime()
		r.note("the GPS week was taken from the file's modification time, %s: keep the date in the name (20171127T104156Z_77500_NAME_iq.wav)",
			date.UTC().Format(time.DateOnly))
	}
	week := gpsWeek(date, k.runs[0].firstNs)
	for i, run := range k.runs {
		if i > 0 {
			r.note("the time stamps jump at sample %d: a new segment begins there", run.pieces[0].first)
		}
		run.addSpans(r, lines[i], week)
	}
	if p.facts.start.IsZero() {
		r.doubtDates(date)
	}
	r.spans[0].exact = true
	r.rateHz = r.spans[0].rateHz
	r.quality = r.spans[0].quality
	if refused := k.frames - k.believed; refused > 0 {
		r.note("%d of %d time stamps contradict the others and were refused", refused, k.frames)
	}
	return nil
}

// doubtDates says how little is known of a date that was guessed from a file's modification: a copy is younger than what
// it holds, by anything up to the age of KiwiSDRs. The stamps tell no more than the time within a week.
func (r *recording) doubtDates(guess time.Time) {
	kiwiBegan := time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range r.spans {
		r.spans[i].quality = protocol.TimeQuality_TIME_QUALITY_RECORDED
		r.spans[i].uncertainty = max(guess.Sub(kiwiBegan), time.Duration(weekNs))
	}
}

// addSpans makes a span of each of a run's pieces.
func (r *kiwiRun) addSpans(rec *recording, line fitted, week time.Time) {
	quality := protocol.TimeQuality_TIME_QUALITY_GNSS
	if r.worst >= staleFix {
		quality = protocol.TimeQuality_TIME_QUALITY_GNSS_STALE
	}
	utc := week.Add(time.Duration(line.baseNs))
	utc = utc.Add(-leapSeconds(utc))
	t := timeline{sample: line.mid, time: utc, offsetNs: line.atNs, periodNs: line.periodNs}
	shift := int64(0)
	for i, piece := range r.pieces {
		shift += piece.lost
		s := span{
			first: piece.first, samples: piece.samples, lost: piece.lost, exact: true, refused: piece.refused,
			rateHz: 1e9 / line.periodNs, centerHz: rec.centerHz, line: t, shift: shift,
			uncertainty: max(time.Duration(line.rmsNs), stampFloor), quality: quality,
		}
		if i == 0 {
			s.segment, s.lost, s.exact = true, r.before, false
		}
		rec.spans = append(rec.spans, s)
		if rec.firstStamp.IsZero() && !piece.refused {
			rec.firstStamp = t.at(piece.first + shift)
		}
	}
}

// withoutTimes describes a recording none of whose stamps can be used.
func (k *kiwiParser) withoutTimes(p *wavParser) error {
	r := p.r
	r.spans = []span{{samples: r.stored, segment: true, refused: k.hidden < k.frames, exact: true, rateHz: r.rateHz, centerHz: r.centerHz}}
	r.stateTime(p.facts.start)
	if k.hidden == k.frames {
		r.note("the receiver gave no time stamps (hidden by its operator, or it never had a GNSS solution)")
	} else {
		r.note("all %d time stamps contradict one another and were refused", k.frames)
	}
	return nil
}
