package acquisition

import (
	"context"

	"github.com/fulgidus/heimdall/protocol"
)

// CreateFitting is Create for a stretch whose end matters less than its start: what would be too long, or too much IQ for
// one of the stations, is shortened to the longest that fits. The request of the acquisition says how long it became.
func (c *Conductor) CreateFitting(ctx context.Context, req protocol.AcquisitionRequest) (*protocol.Acquisition, error) {
	all, err := c.cfg.Stations.Stations(ctx)
	if err != nil {
		return nil, err
	}
	req.DurationS = min(req.DurationS, c.cfg.MaxDuration.Seconds())
	if req.IQ {
		asked, _ := choose(req.Stations, all)
		fit, _ := c.longestIQ(req, asked)
		req.DurationS = min(req.DurationS, fit)
	}
	return c.Create(ctx, req)
}
