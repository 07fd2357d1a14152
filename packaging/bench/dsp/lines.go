//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// chainCase is one input format and size.
type chainCase struct {
	format string
	bins   int
}

func (c chainCase) String() string { return fmt.Sprintf("%s_%d", c.format, c.bins) }

// allCases are in the order of the tables.
func allCases() []chainCase {
	var all []chainCase
	for _, format := range []string{"cu8", "ci16", "cf32"} {
		for _, bins := range []int{256, 512, 1024, 4096, 16384} {
			all = append(all, chainCase{format, bins})
		}
	}
	return all
}

// casesLike are those that a regular expression finds.
func casesLike(expression string) ([]chainCase, error) {
	wanted, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	all := allCases()
	some := slices.DeleteFunc(slices.Clone(all), func(c chainCase) bool { return !wanted.MatchString(c.String()) })
	if len(some) == 0 {
		return nil, fmt.Errorf("-only %s: finds none of %v", expression, all)
	}
	return some, nil
}

// output is what a program printed.
type output struct {
	msps  map[chainCase]float64 // the medians
	notes []string
}

// readOutput reads lines of name, unit, median and best, with tabs between. Lines of other things than the chain are passed
// over; those that begin with # are notes.
func readOutput(r io.Reader) (output, error) {
	o := output{msps: map[chainCase]float64{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if note, ok := strings.CutPrefix(line, "# "); ok {
			o.notes = append(o.notes, note)
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 4 {
			return o, fmt.Errorf("line %q: want name, unit, median and best with tabs between", line)
		}
		if !strings.HasPrefix(fields[0], "chain_") {
			continue
		}
		c, err := parseCase(fields[0])
		if err != nil {
			return o, err
		}
		v, err := strconv.ParseFloat(fields[2], 64)
		if err != nil || !(v > 0) || fields[1] != "Msps" {
			return o, fmt.Errorf("line %q: want a median above 0 in Msps", line)
		}
		o.msps[c] = v
	}
	if err := lines.Err(); err != nil {
		return o, fmt.Errorf("read lines: %w", err)
	}
	return o, nil
}

// parseCase reads chain_PROGRAM_FORMAT_BINS.
func parseCase(name string) (chainCase, error) {
	words := strings.Split(name, "_")
	if len(words) < 4 {
		return chainCase{}, fmt.Errorf("case %q: want chain_PROGRAM_FORMAT_BINS", name)
	}
	bins, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return chainCase{}, fmt.Errorf("case %q: bins: %w", name, err)
	}
	return chainCase{words[len(words)-2], bins}, nil
}
