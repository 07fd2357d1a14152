package radio

import (
	"context"
	"fmt"
	"math"
	"time"
)

// spyAsked is a tuning that was asked for and is not applied yet, as far as anybody told.
type spyAsked struct {
	open     bool
	centerHz float64
	stage    uint32
	newRate  bool
	at       time.Time
}

// stream takes in whatever comes.
func (w *spyWire) stream(ctx context.Context, in *intake) error {
	defer context.AfterFunc(ctx, func() { w.conn.SetReadDeadline(time.Unix(1, 0)) })() //nolint:errcheck // it is closed then
	w.begin(in, spySettle, time.Now())
	if w.firstBody != nil {
		if err := w.samples(in, w.first, w.firstBody, time.Now()); err != nil {
			return err
		}
	}
	for {
		m, body, err := w.read()
		if err != nil {
			return err
		}
		if err := w.take(in, m, body, time.Now()); err != nil {
			return fmt.Errorf("%s: %w", w.shown, err)
		}
	}
}

// begin begins a segment. A transient that has not passed goes on.
func (w *spyWire) begin(in *intake, transient time.Duration, arrived time.Time) {
	if end := arrived.Add(transient); end.After(w.calm) {
		w.calm = end
	}
	in.begin(w.tuning, w.calm.Sub(arrived))
}

// take takes a message in.
func (w *spyWire) take(in *intake, m spyMessage, body []byte, arrived time.Time) error {
	switch {
	case m.samples():
		return w.samples(in, m, body, arrived)
	case m.kind == spyClientSync:
		return w.hear(in, body, arrived)
	case m.kind == spyDeviceInfo:
		_, err := parseSpyDevice(body) // without a receiver nothing more will come
		return err
	}
	return nil
}

// hear takes in what the server says of this client: tuned by whomever.
func (w *spyWire) hear(in *intake, body []byte, arrived time.Time) error {
	said, err := parseSpySync(body)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before, told := w.sync, w.told
	w.sync, w.told = said, true
	if w.asked.newRate {
		return nil // samples tell when it is time
	}
	elsewhere := said.centerHz != w.tuning.CenterHz
	if w.asked.open && (said.centerHz == w.asked.centerHz || elsewhere) {
		w.asked.open = false
	}
	if elsewhere || told && said.gain != before.gain {
		w.tuning.CenterHz = said.centerHz
		w.begin(in, spySettle, arrived)
	}
	return nil
}

// samples takes a message of samples in, after what is missing before it.
func (w *spyWire) samples(in *intake, m spyMessage, body []byte, arrived time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	format := int(m.kind - spyIQ)
	if from, to := spyFormats[w.format], spyFormats[format]; from.to != to.to {
		return fmt.Errorf("samples changed from %s to %s", from.name, to.name)
	}
	w.format = format
	n := len(body) / spyFormats[format].width
	missing, exact := w.count(m.seq, n)
	if float64(missing) > spyMostLost.Seconds()*w.tuning.SampleRateHz {
		return fmt.Errorf("%d samples are missing by the numbers of the messages: the server counts anew", missing)
	}
	if w.asked.newRate {
		if arrived.Sub(w.asked.at) < spyFlush {
			return nil
		}
		w.changeRate(in, m, arrived, n)
	} else {
		in.lost(missing, exact, lostNetwork)
	}
	w.settle(in, m, arrived)
	raw := body
	if spyFormats[format].name == "s24" {
		w.scratch = decodeSpy24(w.scratch[:0], body)
		raw = w.scratch
	}
	return w.clock.put(in, raw, arrived)
}

// count follows the numbers of the messages of samples, and says how many samples are missing before this one. That is a count
// where all messages have been of one size.
func (w *spyWire) count(seq uint32, n int) (missing uint64, exact bool) {
	gap := int32(seq - w.seq)
	if w.counted && gap > 1 {
		missing, exact = uint64(gap-1)*uint64(w.size), w.steady >= spySteady
	}
	w.counted, w.seq = true, seq
	if n == w.size {
		w.steady++
	} else {
		w.size, w.steady = n, 1
	}
	return missing, exact
}

// settle begins a segment where something is known to have changed. The caller holds mu.
func (w *spyWire) settle(in *intake, m spyMessage, arrived time.Time) {
	transient, changed := time.Duration(0), false
	switch {
	case !w.asked.open:
	case !w.told: // nobody will tell: it takes what it takes
		w.tuning.CenterHz, changed, transient = w.asked.centerHz, true, spyBlind
	case arrived.Sub(w.asked.at) > spyFirst: // it should have told: what it told last is so
		changed, transient = w.sync.centerHz != w.tuning.CenterHz, spySettle
		w.tuning.CenterHz = w.sync.centerHz
	default:
		return
	}
	w.asked.open = false
	if m.gainDB != w.tuning.GainDB {
		w.tuning.GainDB, changed = m.gainDB, true
	}
	if changed {
		w.begin(in, transient, arrived)
	}
}

// changeRate goes on at another rate, after samples of which nobody knows at which they are. The caller holds mu.
func (w *spyWire) changeRate(in *intake, m spyMessage, arrived time.Time, n int) {
	w.stage = w.asked.stage
	w.tuning = Tuning{CenterHz: w.asked.centerHz, SampleRateHz: w.device.rate(w.stage), GainDB: m.gainDB}
	if w.told {
		w.tuning.CenterHz = w.sync.centerHz
	}
	between := arrived.Sub(w.asked.at).Seconds()*w.tuning.SampleRateHz - float64(n)
	in.lost(uint64(max(0, between)), false, "retune")
	w.asked = spyAsked{}
	w.begin(in, spySettle, arrived)
	w.size, w.steady = n, 1
	w.startClock()
}

// tune asks for a tuning. The stream says what became of it.
func (w *spyWire) tune(_ context.Context, to Tuning) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b []byte
	ask := spyAsked{open: true, centerHz: math.Round(to.CenterHz), stage: w.stage, at: time.Now()}
	if math.Abs(to.SampleRateHz-w.device.rate(w.stage)) > 1e-3*to.SampleRateHz { // the rate in use is a measured one
		ask.stage = w.device.enough(to.SampleRateHz)
	}
	if w.told && !w.sync.control && !(ask.centerHz >= w.sync.lowHz && ask.centerHz <= w.sync.highHz) {
		return &Fault{w.where, "center", formatHertz(to.CenterHz), fmt.Sprintf("another client controls the receiver: want %s to %s",
			formatHertz(w.sync.lowHz), formatHertz(w.sync.highHz))}
	}
	if ask.newRate = ask.stage != w.stage; ask.newRate {
		b = spySetting(b, spyEnabled, 0)
		b = spySetting(b, spyDecimation, ask.stage)
		b = spySetting(b, spyDigitalGain, w.digital(ask.stage))
	}
	if ask.centerHz != w.tuning.CenterHz {
		b = spySetting(b, spyFrequency, uint32(ask.centerHz))
	}
	if !math.IsNaN(to.GainDB) && to.GainDB != w.wantDB {
		w.wantDB = to.GainDB
		b = spySetting(b, spyDigitalGain, uint32(max(0, math.Round(to.GainDB))))
	}
	if ask.newRate {
		b = spySetting(b, spyEnabled, 1)
	}
	if len(b) == 0 {
		return nil
	}
	if ask.newRate || ask.centerHz != w.tuning.CenterHz {
		w.asked = ask
	}
	return w.write(b)
}
