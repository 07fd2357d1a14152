// Package answers reads what the questions of a program are answered with, at a terminal or through a pipe.
package answers

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrNone says that nobody answers.
var ErrNone = errors.New("the answers ended: answer all questions, or take what is proposed with --yes")

// Ended tells whether an error says that no more answers come: nobody gives them, or whoever did wants to stop.
func Ended(err error) bool { return errors.Is(err, ErrNone) || errors.Is(err, context.Canceled) }

// Reader reads answers, one a line.
type Reader struct {
	in   *bufio.Reader
	file *os.File // of the terminal; nil where none is
}

// New makes a Reader. It may read more than the lines that are asked for.
func New(in io.Reader) *Reader {
	r := &Reader{in: bufio.NewReader(in)}
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		r.file = f
	}
	return r
}

// Terminal tells whether somebody sits there, who sees what is typed and the end of its line.
func (r *Reader) Terminal() bool { return r.file != nil }

// Line reads an answer. It does not wait on when ctx ends, by Ctrl-C for instance; then no other may be read.
func (r *Reader) Line(ctx context.Context) (string, error) {
	return wait(ctx, func() (string, error) { return r.in.ReadString('\n') })
}

func wait(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	came := make(chan answer, 1)
	go func() {
		text, err := read()
		came <- answer{text, err}
	}()
	select {
	case a := <-came:
		if errors.Is(a.err, io.EOF) {
			a.err = nil // the last line may lack its end
			if a.text == "" {
				a.err = ErrNone
			}
		}
		return strings.TrimRight(a.text, "\r\n"), a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
