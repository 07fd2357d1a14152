package acquisition

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const maxHz = 1e12

// check finds every fault of a request, the stations it is for, and its start.
func (c *Conductor) check(req protocol.AcquisitionRequest, all []protocol.Station, now time.Time) ([]protocol.Station, time.Time, error) {
	var faults protocol.FieldErrors
	fault := func(field string, value any, format string, args ...any) {
		if v, ok := value.(float64); ok {
			value = decimal(v)
		}
		faults = append(faults, protocol.FieldError{Field: field, Value: fmt.Sprint(value), Message: fmt.Sprintf(format, args...)})
	}
	if !(req.FrequencyHz > 0 && req.FrequencyHz <= maxHz) {
		fault("frequency_hz", req.FrequencyHz, "want a frequency in Hz above 0 and up to %.0e, such as 145500000", maxHz)
	}
	longest := c.cfg.MaxDuration.Seconds()
	durationOK := req.DurationS >= protocol.MinAcquisitionS && req.DurationS <= longest
	if !durationOK {
		fault("duration_s", req.DurationS, "want %s to %s seconds", decimal(protocol.MinAcquisitionS), decimal(longest))
	}
	bandwidthOK := req.BandwidthHz == nil || (*req.BandwidthHz > 0 && *req.BandwidthHz <= maxHz)
	if !bandwidthOK {
		fault("bandwidth_hz", *req.BandwidthHz, "want a width in Hz above 0 and up to %.0e, or leave it out for the receivers' whole passband", maxHz)
	}
	if req.Priority < math.MinInt32 || req.Priority > math.MaxInt32 {
		fault("priority", req.Priority, "want a small whole number; the default is 0")
	}
	if len(req.Label) > maxLabelBytes {
		fault("label", fmt.Sprintf("%.20s…", req.Label), "want at most %d bytes", maxLabelBytes)
	}
	asked, unknown := choose(req.Stations, all)
	start, message := c.start(req, asked, now)
	if message != "" {
		fault("start_time", req.StartTime, "%s", message)
	}
	for _, id := range unknown {
		fault("stations", id, "no station of this id has ever connected; `heimdall-collector station list` lists those there are")
	}
	if len(asked) == 0 && len(unknown) == 0 {
		fault("stations", "", "no station is online and takes orders; `heimdall-collector station list` tells why")
	}
	if req.IQ && durationOK && bandwidthOK {
		if fit, heaviest := c.longestIQ(req, asked); req.DurationS > fit {
			fault("duration_s", req.DurationS,
				"the IQ of %s would be more than %d MiB; want at most %s seconds, or a narrower bandwidth_hz",
				heaviest, c.cfg.IQBytes>>20, decimal(fit))
		}
	}
	if len(faults) > 0 {
		return nil, time.Time{}, faults
	}
	return asked, start, nil
}

// decimal writes a number as people do, without an exponent.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// start reads a start, to the microsecond that databases keep. The past is for the stations to judge: their histories
// reach back differently far.
func (c *Conductor) start(req protocol.AcquisitionRequest, asked []protocol.Station, now time.Time) (start time.Time, message string) {
	if req.StartTime == "" {
		return now.Add(c.lead(req, asked)).Truncate(time.Microsecond), ""
	}
	start, err := time.Parse(time.RFC3339Nano, req.StartTime)
	switch {
	case err != nil:
		return start, "want a time like 2026-11-24T10:42:00Z"
	case start.Year() < 2000:
		return start, "no station remembers that; want a time after 2000"
	case start.After(now.Add(maxAhead)):
		return start, fmt.Sprintf("want a start within %d days", int(maxAhead.Hours()/24))
	}
	return start.UTC().Truncate(time.Microsecond), ""
}

// lead is how far ahead a start has to be for its command to reach all stations before: half as much again as the slowest
// took to answer, of which the way there is only a part; and time to tune, where no receiver hears the frequency all the time.
func (c *Conductor) lead(req protocol.AcquisitionRequest, asked []protocol.Station) time.Duration {
	lead := leadMin
	for _, s := range asked {
		if s.Status != protocol.Online || !takesOrders(s) {
			continue
		}
		needed := c.cfg.Lead
		if took, ok := c.cfg.Commander.ReplyTime(s.ID); ok {
			needed = took + took/2 + leadSlack
		}
		lead = max(lead, needed+retune(req, s))
	}
	return min(lead, leadMax)
}

// retune is how long a station may take to have a receiver where it hears what is asked for.
func retune(req protocol.AcquisitionRequest, s protocol.Station) time.Duration {
	half := 0.0
	if req.BandwidthHz != nil {
		half = *req.BandwidthHz / 2
	}
	longest := 0.0
	for _, r := range s.Receivers {
		if len(r.Plan) <= 1 && math.Abs(r.CenterHz-req.FrequencyHz)+half <= r.SampleRateHz/2 {
			return 0
		}
		longest = max(longest, r.RetuneS)
	}
	return time.Duration(min(longest, leadMax.Seconds()) * float64(time.Second))
}

// choose finds the stations asked for; without any, all that are there and take orders.
func choose(ids []string, all []protocol.Station) (asked []protocol.Station, unknown []string) {
	if len(ids) == 0 {
		for _, s := range all {
			if s.Status == protocol.Online && takesOrders(s) {
				asked = append(asked, s)
			}
		}
		return asked, nil
	}
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		i := slices.IndexFunc(all, func(s protocol.Station) bool { return s.ID == id })
		if i < 0 {
			unknown = append(unknown, id)
			continue
		}
		asked = append(asked, all[i])
	}
	return asked, unknown
}

func takesOrders(s protocol.Station) bool { return slices.Contains(s.Capabilities, "capture") }

// longestIQ is the longest duration, in whole milliseconds, whose IQ stays within the limit at every station, and the
// station that sets it.
func (c *Conductor) longestIQ(req protocol.AcquisitionRequest, asked []protocol.Station) (seconds float64, heaviest string) {
	seconds = math.Inf(1)
	for _, s := range asked {
		bytesPerS := iqBytesPerS(req, s.Receivers)
		if bytesPerS == 0 {
			continue
		}
		if fit := math.Floor(float64(c.cfg.IQBytes)/bytesPerS*1000) / 1000; fit < seconds {
			seconds, heaviest = fit, s.ID
		}
	}
	return seconds, heaviest
}

// iqBytesPerS is what the receiver makes that will serve a request: one that covers the frequency, else the fastest.
// 0 when no receiver says its rate.
func iqBytesPerS(req protocol.AcquisitionRequest, receivers []protocol.ReceiverInfo) float64 {
	var rate, size float64
	covered := false
	for _, r := range receivers {
		covers := math.Abs(r.CenterHz-req.FrequencyHz) <= r.SampleRateHz/2
		if (covers && !covered) || (covers == covered && r.SampleRateHz > rate) {
			rate, size, covered = r.SampleRateHz, sampleBytes(r.Source), covers
		}
	}
	if req.BandwidthHz == nil {
		return rate * size
	}
	// Channelised: the smallest rate/n of at least 1.25 times the bandwidth, as 16-bit pairs.
	const pairBytes = 4
	if wanted := 1.25 * *req.BandwidthHz; rate >= wanted {
		return rate / math.Floor(rate/wanted) * pairBytes
	}
	return rate * pairBytes
}

// sampleBytes is how many bytes a sample of a kind of source takes, as delivered.
func sampleBytes(source string) float64 {
	switch source {
	case "rtlsdr", "rtltcp", "rtl_tcp":
		return 2
	}
	return 4
}
