package spool

import "time"

// busyRate is from how many records a second on a pace is busy.
const busyRate = 50

// pace estimates how many records pass in a second.
type pace struct {
	began        time.Time // of the first second
	second       int64     // the one being counted, from 0
	now, before  int
	beforeSecond int64
}

func (p *pace) count(at time.Time, records int) {
	if p.began.IsZero() {
		p.began = at
	}
	if sec := p.secondOf(at); sec != p.second {
		p.before, p.beforeSecond = p.now, p.second
		p.now, p.second = 0, sec
	}
	p.now += records
}

func (p *pace) secondOf(at time.Time) int64 { return int64(at.Sub(p.began) / time.Second) }

func (p *pace) busy(at time.Time) bool {
	if p.began.IsZero() {
		return false
	}
	sec := p.secondOf(at)
	if p.second == sec && p.now > busyRate {
		return true
	}
	return p.second == sec-1 && p.now > busyRate || p.second == sec && p.beforeSecond == sec-1 && p.before > busyRate
}
