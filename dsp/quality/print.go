package main

import (
	"fmt"
	"io"
	"math"
)

func (r *report) print(out io.Writer) {
	r.printCells(out)
	r.printEvents(out)
	r.printCurves(out)
	r.printTrades(out)
	r.printEstimates(out)
}

func (r *report) printCells(out io.Writer) {
	if len(r.cells) == 0 {
		return
	}
	power, kurtosis := newNoiseTable().moments()
	fmt.Fprintf(out, "\n## Cells of noise over the exact thresholds\n\n")
	fmt.Fprintf(out, "Noise of %.2f dBFS from a table; its kurtosis %.4f changes what is wanted at 1e-10 by %.1g.\n\n",
		decibels(power), kurtosis, noiseExcess(kurtosis, bins, math.Log(1e10)))
	fmt.Fprintf(out, "| K | Pfa | cells | expected | over | ratio | 95 %% |\n|---|---|---|---|---|---|---|\n")
	for _, c := range r.cells {
		low, high := c.interval()
		fmt.Fprintf(out, "| %d | %.0e | %.3g | %.1f | %.0f | %.4f | %.4f to %.4f |\n",
			c.averages, c.pfa, c.cells, c.cells*c.pfa, c.over, c.ratio(), low, high)
	}
}

func (r *report) printEvents(out io.Writer) {
	if len(r.events) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## False events of the detector in noise\n\n")
	fmt.Fprintf(out, "| threshold dB | cells of one frame | hours | false events | an hour | 95 %% |\n|---|---|---|---|---|---|\n")
	for _, f := range r.events {
		rate, low, high := f.perHour()
		fmt.Fprintf(out, "| %g | %.3g | %.3f | %d | %.3g | %.2g to %.2g |\n",
			f.thresholdDB, f.cells(), f.samples/hour, f.events, rate, low, high)
	}
}

func (r *report) printCurves(out io.Writer) {
	if len(r.curves) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## Detection: energy of the burst over the noise's density, dB\n\n")
	fmt.Fprintf(out, "| threshold dB | burst | bandwidth | M | bound 0.5 | needed | loss | bound 0.9 | needed | loss | in a cell | a cell's own | loss |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.curves {
		fmt.Fprintf(out, "| %s | %g ms | %s | %.4g |", c.by(), c.burst.ms, c.burst.name(), c.burst.dimensions())
		for _, pd := range []float64{0.5, 0.9} {
			fmt.Fprintf(out, " %.1f | %.1f | %.1f |", c.boundAt(pd), c.energyAt(pd), c.lossDB(pd))
		}
		if c.boxes {
			fmt.Fprintf(out, " %.1f | | |\n", c.cellSNR(0.9))
			continue
		}
		fmt.Fprintf(out, " %.1f | %.1f | %.1f |\n", c.cellSNR(0.9), cellDB(rowFrames, c.thresholdDB, 0.9), c.cellLossDB(0.9))
	}
}

// name is the burst's modulation.
func (b burst) name() string {
	if b.symbol == 0 {
		return "carrier"
	}
	return fmt.Sprintf("%.3g kBd", b.bandwidthHz()/1e3)
}

func (r *report) printTrades(out io.Writer) {
	if len(r.trades) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## Detection against false events: %s, %g ms\n\n", tradeBurst.name(), tradeBurst.ms)
	fmt.Fprintf(out, "| energy dB | threshold dB | found | of | Pd |\n|---|---|---|---|---|\n")
	for _, t := range r.trades {
		fmt.Fprintf(out, "| %g | %g | %d | %d | %.3f |\n", t.point.energyDB, t.thresholdDB, t.point.found, t.point.of, t.point.pd())
	}
}

func (r *report) printEstimates(out io.Writer) {
	if len(r.estimates) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## Estimates\n\n")
	fmt.Fprintf(out, "| of | at | SNR dB | unit | bias | rms | limit | rms over limit | limit is | trials |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, e := range r.estimates {
		snr := "-"
		if !math.IsNaN(e.snrDB) {
			snr = fmt.Sprintf("%g", e.snrDB)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %+.3g | %.3g | %.3g | %.2f | %s | %d |\n",
			e.of, e.at, snr, e.unit, e.bias, e.rms, e.limit, e.rms/e.limit, e.bound, e.count)
	}
}
