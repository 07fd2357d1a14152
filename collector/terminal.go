package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// plain is text of somebody else's as a terminal may show it, in one line: what would steer it, hide the text around it or turn that
// around becomes a mark.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// plainLines is plain for text of several lines.
func plainLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}

// terminalSize is the size of the terminal that w is; ok is false when it is none.
func terminalSize(w io.Writer) (columns, rows int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 1 || rows < 2 {
		columns, rows = 80, 24
	}
	return columns, rows, true
}

// board is some lines at the end of a terminal that change in place.
type board struct {
	w     io.Writer
	drawn int // lines that stand there
	last  string
}

// draw shows lines instead of those before. What does not fit is left out: a line that wrapped, or scrolled away, could
// not be drawn over.
func (b *board) draw(lines []string, columns, rows int) {
	if len(lines) > rows-1 {
		hidden := len(lines) - (rows - 2)
		lines = append(slices.Clone(lines[:rows-2]), fmt.Sprintf("  and %d more", hidden))
	}
	var text strings.Builder
	for _, line := range lines {
		if runes := []rune(line); len(runes) >= columns {
			line = string(runes[:columns-1])
		}
		text.WriteString("\x1b[K" + line + "\n") // the rest of the line before goes
	}
	if text.String() == b.last {
		return
	}
	b.last = text.String()
	up := ""
	if b.drawn > 0 {
		up = fmt.Sprintf("\x1b[%dA\r", b.drawn)
	}
	fmt.Fprint(b.w, up+b.last+"\x1b[J") // and the lines below
	b.drawn = len(lines)
}
