package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// progressLine is one line that changes in place on a terminal, and nothing elsewhere.
type progressLine struct {
	w     io.Writer
	shown string
}

func (p *progressLine) show(line string) {
	f, ok := p.w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || line == p.shown {
		return
	}
	p.shown = line
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

func (p *progressLine) end() {
	if p.shown != "" {
		fmt.Fprintln(p.w)
		p.shown = ""
	}
}
