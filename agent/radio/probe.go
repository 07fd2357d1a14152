package radio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Fact is one thing that a source says of itself, in words for an operator.
type Fact struct {
	Name string `json:"name"` // users, place, firmware …
	Text string `json:"text"`
}

// describer is a receiver that can say what is there without taking a place at the source.
type describer interface {
	describe(ctx context.Context) ([]Fact, error)
}

// Report is what Probe found. Info and what follows it is not set where the source did not let anybody listen.
type Report struct {
	Facts []Fact
	Info  Info

	Samples, Lost   uint64
	Health          Health
	RateHz          float64 // as measured last
	TimeQuality     protocol.TimeQuality
	TimeUncertainty time.Duration
}

// Probe says what a source is: it asks, opens it as it is, without tuning, and listens for a while. The error says why that
// was not possible; what was found until then is in the report all the same. Each block is shown to heard, unless that is nil.
func Probe(ctx context.Context, source string, opts Options, listen time.Duration, heard func(*Block)) (Report, error) {
	var found Report
	rx, err := Open(source, opts)
	if err != nil {
		return found, err
	}
	defer rx.Close()
	if d, can := rx.(describer); can {
		found.Facts, err = d.describe(ctx)
		if _, no := errors.AsType[*Refusal](err); no { // of other errors to open it says more
			return found, err
		}
	}
	if found.Info, err = rx.Open(ctx); err != nil {
		return found, err
	}
	err = found.listen(ctx, rx, listen, heard)
	found.Health = rx.Health()
	return found, err
}

// listen reads for a while, or until a recording ends.
func (r *Report) listen(ctx context.Context, rx Receiver, listen time.Duration, heard func(*Block)) error {
	enough, cancel := context.WithTimeout(ctx, listen)
	defer cancel()
	var b Block
	for {
		err := rx.Read(enough, &b)
		switch {
		case errors.Is(err, io.EOF) || err != nil && enough.Err() != nil && ctx.Err() == nil:
			if r.Samples == 0 {
				return fmt.Errorf("%s: nothing came in %s", r.Info.Source, listen)
			}
			return nil
		case err != nil:
			return err
		}
		r.Samples += uint64(b.Samples())
		r.Lost += b.LostBefore
		r.RateHz, r.TimeQuality, r.TimeUncertainty = b.Tuning.SampleRateHz, b.TimeQuality, b.TimeUncertainty
		if heard != nil {
			heard(&b)
		}
	}
}
