package answers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/term"
)

// Hidden asks a question, of one line, and is Line for what a terminal shall not show. It hides before it asks, for who pastes is fast, and shows
// again whatever ends it.
func (r *Reader) Hidden(ctx context.Context, out io.Writer, question string) (string, error) {
	defer fmt.Fprintln(out)
	if r.file == nil {
		fmt.Fprint(out, question)
		return r.Line(ctx)
	}
	fd := int(r.file.Fd())
	shows, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(out, question)
	text, err := wait(ctx, func() (string, error) { return typed(r.in) })
	return text, errors.Join(err, term.Restore(fd, shows))
}

// Keys that a terminal in raw mode leaves to its program.
const (
	keyInterrupt  = 'C' - '@'
	keyEnd        = 'D' - '@'
	keyBackspace  = 'H' - '@'
	keyDeleteLine = 'U' - '@'
	keyDelete     = 0x7f
)

// typed reads what is typed up to the end of the line, which is in the text as Line has it.
func typed(in *bufio.Reader) (string, error) {
	var text []byte
	for {
		key, err := in.ReadByte()
		switch {
		case err != nil:
			return string(text), err
		case key == '\r' || key == '\n':
			return string(append(text, '\n')), nil
		case key == keyInterrupt:
			return "", context.Canceled
		case key == keyEnd && len(text) == 0:
			return "", io.EOF
		case key == keyDeleteLine:
			text = text[:0]
		case key == keyBackspace || key == keyDelete:
			_, size := utf8.DecodeLastRune(text)
			text = text[:len(text)-size]
		case key < ' ' && key != '\t': // of another key, which is no text
		default:
			text = append(text, key)
		}
	}
}
