//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// spread is the least, the median and the most of the rounds.
type spread struct{ min, median, max float64 }

// spreadOf takes the upper of the two in the middle.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]}
}

func (s spread) String() string {
	decimals := 2
	if s.max >= 10 {
		decimals = 1
	}
	return fmt.Sprintf("%.*f/%.*f/%.*f", decimals, s.min, decimals, s.median, decimals, s.max)
}

// speeds are what a program measured for a case, by round.
func (p *program) speeds(c chainCase) []float64 {
	var all []float64
	for _, round := range p.rounds {
		if v, ok := round[c]; ok {
			all = append(all, v)
		}
	}
	return all
}

// times is how many times as fast as a peer the program was, round by round. Nothing when one of them was not there.
func (p *program) times(peer *program, c chainCase) (spread, bool) {
	ours, theirs := p.speeds(c), peer.speeds(c)
	n := min(len(ours), len(theirs))
	if n == 0 {
		return spread{}, false
	}
	ratios := make([]float64, n)
	for i := range ratios {
		ratios[i] = ours[i] / theirs[i]
	}
	return spreadOf(ratios), true
}

func (b *bench) program(name string) *program {
	return b.programs[slices.IndexFunc(b.programs, func(p *program) bool { return p.name == name })]
}

// print writes all tables.
func (b *bench) print(w io.Writer) {
	fmt.Fprintln(w, "\nsurvey chain: raw samples → float → Hann → FFT → |X|² → sum, half overlap; new samples a second of one core's own time")
	b.printPrograms(w)
	b.printTable(w, "Msps, median", b.programs, func(p *program, c chainCase) (string, bool) {
		all := p.speeds(c)
		if len(all) == 0 {
			return "", false
		}
		return fmt.Sprintf("%.1f", spreadOf(all).median), true
	})
	for _, ours := range []string{best, generic} {
		p := b.program(ours)
		peers := slices.DeleteFunc(slices.Clone(b.programs), func(o *program) bool { return o.name == best || o.name == generic })
		b.printTable(w, ours+" against", peers, func(peer *program, c chainCase) (string, bool) {
			s, ok := p.times(peer, c)
			return s.String(), ok
		})
	}
	b.printMarks(w)
}

// printPrograms says what was compared, and what was not and why.
func (b *bench) printPrograms(w io.Writer) {
	for _, p := range b.programs {
		if p.missing != "" {
			fmt.Fprintf(w, "  %-10s MISSING (%s); mend: %s\n", p.name, p.missing, cmp.Or(p.mend, "see the message"))
			continue
		}
		if len(p.notes) > 0 {
			fmt.Fprintf(w, "  %-10s %s\n", p.name, strings.Join(p.notes, "; "))
		}
	}
}

// printTable writes a row for each case and a column for each program.
func (b *bench) printTable(w io.Writer, title string, columns []*program, cell func(*program, chainCase) (string, bool)) {
	fmt.Fprintf(w, "\n%-16s", title)
	for _, p := range columns {
		fmt.Fprintf(w, "%16s", p.name)
	}
	fmt.Fprintln(w)
	for _, c := range b.cases {
		fmt.Fprintf(w, "  %-5s %6d  ", c.format, c.bins)
		for _, p := range columns {
			text, ok := cell(p, c)
			if !ok {
				text = "missing"
			}
			fmt.Fprintf(w, "%16s", text)
		}
		fmt.Fprintln(w)
	}
}

// mark is what we hold ourselves to, in medians.
type mark struct {
	ours, peer string
	cases      func(chainCase) bool
	least      float64
}

func marks() []mark {
	stick := func(c chainCase) bool { return c == chainCase{"cu8", 4096} }
	everywhere := func(chainCase) bool { return true }
	return []mark{
		{best, fftw, stick, 1.25},
		{best, scipy, stick, 11},
		{best, gonum, stick, 65},
		{generic, scipy, stick, 1},
		{best, fftw, everywhere, 1},
	}
}

// printMarks says of each mark whether it is held, by the case that comes nearest to breaking it.
func (b *bench) printMarks(w io.Writer) {
	fmt.Fprintln(w, "\nmarks, by the median")
	for _, m := range marks() {
		worst, at, found := spread{}, chainCase{}, false
		for _, c := range b.cases {
			s, ok := b.program(m.ours).times(b.program(m.peer), c)
			if ok && m.cases(c) && (!found || s.median < worst.median) {
				worst, at, found = s, c, true
			}
		}
		verdict := fmt.Sprintf("held   %s  %s", worst, at)
		switch {
		case !found:
			verdict = "NOT MEASURED"
		case worst.median < m.least:
			verdict = fmt.Sprintf("BELOW  %s  %s", worst, at)
		}
		fmt.Fprintf(w, "  %-8s at least %5.2f × %-6s %s\n", m.ours, m.least, m.peer, verdict)
	}
}
