package radio

import (
	"math"
	"time"
)

// gpsEpoch is where GPS time begins: it was UTC then, and has had no leap seconds since.
var gpsEpoch = time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)

const weekNs = 7 * 24 * 3600 * int64(time.Second)

// utcOfWeek is the UTC of a time of the GPS week that is nearest to now.
func utcOfWeek(ns int64, now time.Time) time.Time {
	gps := gpsWeek(now, ns).Add(time.Duration(ns))
	return gps.Add(-leapSeconds(gps))
}

// gpsWeek is the start of the GPS week that puts a time of week within half a week of an instant.
func gpsWeek(near time.Time, ofWeekNs int64) time.Time {
	weeks := math.Round(float64(near.Sub(gpsEpoch)-time.Duration(ofWeekNs)) / float64(weekNs))
	return gpsEpoch.Add(time.Duration(int64(weeks) * weekNs))
}

// leapSeconds is GPS time minus UTC. There is none after 2017; KiwiSDRs began in 2016.
func leapSeconds(gps time.Time) time.Duration {
	for _, l := range [...]struct {
		year, month int
		ahead       time.Duration
	}{
		{2017, 1, 18 * time.Second},
		{2015, 7, 17 * time.Second},
		{2012, 7, 16 * time.Second},
		{2009, 1, 15 * time.Second},
		{2006, 1, 14 * time.Second},
	} {
		if !gps.Before(time.Date(l.year, time.Month(l.month), 1, 0, 0, 0, 0, time.UTC)) {
			return l.ahead
		}
	}
	return 13 * time.Second
}
