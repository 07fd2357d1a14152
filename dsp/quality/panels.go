package main

import (
	"fmt"
	"math"
)

// shown are the bursts whose whole curves are drawn.
var shown = []burst{{2, 0}, {2, 256}, {2, 64}, {5, 16}}

func (r *report) detectionPanel() panel {
	p := panel{
		title: fmt.Sprintf("Detection, threshold %g dB", hourlyDB),
		x:     axis{label: "burst energy over noise density, dB", low: 12, high: 32, step: 4},
		y:     axis{label: "probability of detection", low: 0, high: 1, step: 0.2},
	}
	for i, b := range shown {
		bound := series{color: i, style: "dash"}
		if i == len(shown)-1 {
			bound.name = "bound, 1 an hour"
		}
		for e := p.x.low; e <= p.x.high; e += 0.25 {
			m := b.dimensions()
			bound.add(e, energyDetection(m, fromDB(e), energyThreshold(m, hourlyPfa(m, 1))))
		}
		line := series{name: fmt.Sprintf("%s, %g ms", b.name(), b.ms), color: i, dots: true}
		for _, c := range r.curves {
			if c.burst == b && c.thresholdDB == hourlyDB {
				for _, v := range c.points {
					line.add(v.energyDB, v.pd())
				}
			}
		}
		p.lines = append(p.lines, line, bound)
	}
	return p
}

func (r *report) lossPanel() panel {
	p := panel{
		title: "Energy over the bound's at Pd 0.9",
		x:     axis{label: "burst length, ms", low: 0.4, high: 25, log: true, at: []float64{0.5, 1, 2, 5, 10, 20}},
		y:     axis{label: "loss, dB", low: 0, high: 14, step: 2},
	}
	at := map[string]int{}
	for _, c := range r.curves {
		key := fmt.Sprint(c.burst.symbol, c.by())
		i, ok := at[key]
		if !ok {
			i = len(p.lines)
			at[key] = i
			p.lines = append(p.lines, lossSeries(&c, i))
		}
		p.lines[i].add(c.burst.ms, c.lossDB(0.9))
	}
	return p
}

// lossSeries is the empty line of the i-th modulation and detector: the first of each kind is in the legend.
func lossSeries(c *curve, i int) series {
	s := series{color: i % 4, dots: !c.boxes}
	switch {
	case c.boxes:
		s.style = "dot"
	case c.thresholdDB == surveyDB:
		s.style = "dash"
	default:
		s.name = c.burst.name()
		return s
	}
	if s.color == 0 {
		s.name = c.by()
		if !c.boxes {
			s.name = "at " + s.name + " dB"
		}
	}
	return s
}

func (r *report) tradePanel() panel {
	p := panel{
		title: fmt.Sprintf("Against false events: %s, %g ms", tradeBurst.name(), tradeBurst.ms),
		x:     axis{label: "false events an hour", low: 0.1, high: 1e4, log: true},
		y:     axis{label: "probability of detection", low: 0, high: 1, step: 0.2},
	}
	rate := map[float64]float64{}
	for _, f := range r.events {
		if f.events > 0 {
			rate[f.thresholdDB], _, _ = f.perHour()
		}
	}
	m := tradeBurst.dimensions()
	for i, energy := range tradeEnergies {
		line := series{name: fmt.Sprintf("%g dB", energy), color: i, dots: true}
		for _, t := range r.trades {
			if hourly, ok := rate[t.thresholdDB]; ok && t.point.energyDB == energy {
				line.add(hourly, t.point.pd())
			}
		}
		bound := series{color: i, style: "dash"}
		if i == len(tradeEnergies)-1 {
			bound.name = "bound"
		}
		for d := math.Log10(p.x.low); d <= math.Log10(p.x.high)+1e-9; d += 0.25 {
			hourly := math.Pow(10, d)
			bound.add(hourly, energyDetection(m, fromDB(energy), energyThreshold(m, hourlyPfa(m, hourly))))
		}
		p.lines = append(p.lines, line, bound)
	}
	return p
}

func (r *report) cellPanel() panel {
	p := panel{
		title: "Cells of noise over exact thresholds",
		x:     axis{label: "wanted probability", low: 5e-8, high: 2e-3, log: true},
		y:     axis{label: "measured over wanted", low: 0.6, high: 1.4, step: 0.2},
	}
	for i, k := range cellAverages {
		s := series{name: fmt.Sprintf("K = %d", k), color: i, dots: true}
		for _, c := range r.cells {
			if c.averages == k {
				low, high := c.interval()
				s.add(c.pfa*math.Pow(1.2, float64(i)-1.5), c.ratio())
				s.lowest, s.most = append(s.lowest, low), append(s.most, high)
			}
		}
		p.lines = append(p.lines, s)
	}
	return p
}

// drawn are the estimates in the last two panels.
var drawn = []struct{ name, of, at string }{
	{"level, carrier", "level", "carrier, 20 ms"},
	{"start, carrier", "start", "carrier, 20 ms"},
	{"centre, line", "centre", "line, one frame"},
	{"level, QPSK", "level", "48 kBd, 20 ms"},
	{"width, QPSK", "bandwidth", "48 kBd, 64 frames of 4096"},
	{"floor, QPSK", "floor", "48 kBd, 20 ms"},
}

func (r *report) estimatePanel(p panel, value func(e estimate) float64) panel {
	p.x = axis{label: "SNR, dB", low: 10, high: 40, step: 5}
	for i, d := range drawn {
		s := series{name: d.name, color: i, dots: true}
		for _, e := range r.estimates {
			if e.of == d.of && e.at == d.at {
				s.add(e.snrDB, value(e))
			}
		}
		p.lines = append(p.lines, s)
	}
	return p
}

func (r *report) spreadPanel() panel {
	return r.estimatePanel(panel{title: "Error of estimates", y: axis{label: "rms error over its limit", low: 0.01, high: 10, log: true}},
		func(e estimate) float64 { return e.rms / e.limit })
}

func (r *report) biasPanel() panel {
	return r.estimatePanel(panel{title: "Bias of estimates", y: axis{label: "bias over its limit", low: -6, high: 6, step: 2}},
		func(e estimate) float64 { return e.bias / e.limit })
}
