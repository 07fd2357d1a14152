package spool

import (
	"fmt"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// Lane is a class of records: it decides what is sent first, and what is given up first when there is no room.
type Lane string

// The lanes, in the order in which they are sent.
const (
	LaneReply       Lane = "reply"
	LaneGap         Lane = "gap"
	LaneDetection   Lane = "detection"
	LaneHealth      Lane = "health"
	LaneSite        Lane = "site"
	LaneMeasurement Lane = "measurement"
	LaneSpectrum    Lane = "spectrum"
	LaneIQ          Lane = "iq"
)

const laneCount = 8

// amount is records and the bytes of disk that they take.
type amount struct {
	records, bytes int64
}

func (a *amount) add(records, bytes int64) {
	a.records += records
	a.bytes += bytes
}

// Lanes lists every lane in the order in which they are sent.
func Lanes() []Lane {
	return []Lane{LaneReply, LaneGap, LaneDetection, LaneHealth, LaneSite, LaneMeasurement, LaneSpectrum, LaneIQ}
}

var laneNames = Lanes()

// LaneOf is the lane for records of a kind: the one with its name; measurement for kinds unknown here.
func LaneOf(kind protocol.Kind) Lane {
	if lane := Lane(kind); lane.index() >= 0 {
		return lane
	}
	return LaneMeasurement
}

// index is the lane's rank in sending, -1 for no lane.
func (l Lane) index() int {
	for i, known := range laneNames {
		if l == known {
			return i
		}
	}
	return -1
}

func (l Lane) check() (int, error) {
	i := l.index()
	if i < 0 {
		names := make([]string, 0, laneCount)
		for _, known := range Lanes() {
			names = append(names, string(known))
		}
		return 0, fmt.Errorf("lane %q: want one of %s", string(l), strings.Join(names, ", "))
	}
	return i, nil
}

// urgent lanes are committed at once.
func (l Lane) urgent() bool {
	return l == LaneReply || l == LaneGap || l == LaneDetection
}

// shedClasses lists what may be given up for want of room, the least valuable first; inside a class the oldest goes
// first. Replies, gaps and sites are never given up.
func shedClasses() [][]Lane {
	return [][]Lane{{LaneIQ}, {LaneSpectrum}, {LaneMeasurement, LaneDetection, LaneHealth}}
}
