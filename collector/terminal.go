package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// progressLine is one line that changes in place on a terminal, and elsewhere a line for each change of state.
type progressLine struct {
	w     io.Writer
	shown string
}

// show prints a state, and how far it is where that can change in place.
func (p *progressLine) show(state, far string) {
	line, format := state, "%s\n"
	if p.inPlace() {
		line, format = state+far, "\r\x1b[K%s"
	}
	if line == p.shown {
		return
	}
	p.shown = line
	fmt.Fprintf(p.w, format, line)
}

func (p *progressLine) inPlace() bool {
	f, ok := p.w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p *progressLine) end() {
	if p.shown != "" && p.inPlace() {
		fmt.Fprintln(p.w)
	}
}
