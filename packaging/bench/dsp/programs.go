//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is one that runs the chain.
type program struct {
	name    string
	command []string // cases follow
	env     []string
	// whole: it runs once a round, with all cases, because it takes long to start. The others run once a case, right after one another.
	whole bool
	// mend is what one does when it cannot run.
	mend string

	missing string // why it cannot run
	notes   []string
	rounds  []map[chainCase]float64 // Msps, by round
}

// Names of what is compared.
const (
	best, generic          = "best", "generic" // engines: the one that the agent takes by itself, and the portable one
	fftw, volk, liquid     = "FFTW", "VOLK", "liquid"
	scipy, gnuradio, gonum = "scipy", "GNU Radio", "gonum"
)

// programs are ours, with two engines, and the peers.
func programs(self, agent, scripts, built string) []*program {
	ours := func(name, engine string) *program {
		return &program{
			name: name, env: []string{"HEIMDALL_DSP=" + engine}, mend: "make build",
			command: []string{agent, "bench", "--tsv", "--only"},
		}
	}
	peer := func(name string, whole bool, command ...string) *program {
		return &program{name: name, command: command, whole: whole, mend: "make bench-peers"}
	}
	const python = "/usr/bin/python3" // Debian's, which has its packages
	return []*program{
		ours(best, ""),
		peer(fftw, false, filepath.Join(built, "dsp-fftw")),
		ours(generic, generic),
		peer(volk, false, filepath.Join(built, "dsp-volk")),
		peer(liquid, false, filepath.Join(built, "dsp-liquid")),
		{name: gonum, command: []string{self, "gonum"}},
		peer(scipy, true, python, filepath.Join(scripts, "welch.py")),
		peer(gnuradio, true, python, filepath.Join(scripts, "flowgraph.py")),
	}
}

// run runs the program for a case, or for all of them, and keeps what it measured.
func (p *program) run(ctx context.Context, round int, cases ...chainCase) error {
	command := slices.Clone(p.command)
	for _, one := range cases {
		command = append(command, one.String())
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(os.Environ(), p.env...)
	var out, messages bytes.Buffer
	c.Stdout, c.Stderr = &out, &messages
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.missing = strings.TrimSpace(fmt.Sprintf("%v %s", err, lastLine(messages.String())))
		return nil
	}
	o, err := readOutput(&out)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if round == len(p.rounds) {
		p.rounds = append(p.rounds, map[chainCase]float64{})
	}
	for _, one := range cases {
		v, ok := o.msps[one]
		if !ok {
			return fmt.Errorf("%s measured nothing for %s", p.name, one)
		}
		p.rounds[round][one] = v
	}
	p.note(o.notes)
	return nil
}

func (p *program) note(notes []string) {
	for _, n := range notes {
		if !slices.Contains(p.notes, n) {
			p.notes = append(p.notes, n)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// bench is a run.
type bench struct {
	programs []*program
	cases    []chainCase
	progress io.Writer
}

// run has the programs take turns: those that start quickly at each case, the others once a round.
func (b *bench) run(ctx context.Context, rounds int) error {
	for round := range rounds {
		for _, c := range b.cases {
			fmt.Fprintf(b.progress, "\rround %d of %d, %-12s", round+1, rounds, c)
			if err := b.each(ctx, round, false, c); err != nil {
				return err
			}
		}
		if err := b.each(ctx, round, true, b.cases...); err != nil {
			return err
		}
	}
	fmt.Fprint(b.progress, "\r\033[K")
	return nil
}

func (b *bench) each(ctx context.Context, round int, whole bool, cases ...chainCase) error {
	for _, p := range b.programs {
		if p.whole != whole || p.missing != "" {
			continue
		}
		if err := p.run(ctx, round, cases...); err != nil {
			return err
		}
	}
	return nil
}
