package acquisition

import (
	"context"

	"github.com/fulgidus/heimdall/protocol"
)

// CreateFitting is Create for a stretch whose end matters less than its start: what would be too long, or too much IQ for
// one of the stations, is shortened to the longest that fits. The request of the acquisition says how long it became.
func (c *Conductor) CreateFitting(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	return c.fulfil(ctx, &wish{req: req, fit: true, done: make(chan struct{})})
}

// longestFitting is the duration of a request in seconds, or the longest that fits where that is less.
func (c *Conductor) longestFitting(req protocol.AcquisitionRequest, all []protocol.Station) float64 {
	longest := min(req.DurationS, c.cfg.MaxDuration.Seconds())
	if req.IQ {
		asked, _ := choose(req.Stations, all)
		fit, _ := c.longestIQ(req, asked)
		longest = min(longest, fit)
	}
	return longest
}
