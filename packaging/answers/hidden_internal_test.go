package answers

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestTyped(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		keys, want, rest string
		err              error
	}{
		{keys: "secret\rnext", want: "secret\n", rest: "next"},
		{keys: "secret\nnext", want: "secret\n", rest: "next"},
		{keys: "seé\x7f\bcret\r", want: "scret\n"},
		{keys: "\x7fa\r", want: "a\n"},
		{keys: "wrong\x15right\r", want: "right\n"},
		{keys: "sec\x03ret\r", rest: "ret\r", err: context.Canceled},
		{keys: "\x04", err: io.EOF},
		{keys: "a\x04b\r", want: "ab\n"},
		{keys: "a\x1a\x1c\tb\r", want: "a\tb\n"},
		{keys: "gone", want: "gone", err: io.EOF},
		{keys: "\r", want: "\n"},
	} {
		in := bufio.NewReader(strings.NewReader(tc.keys))
		got, err := typed(in)
		rest, _ := io.ReadAll(in)
		if got != tc.want || string(rest) != tc.rest || !errors.Is(err, tc.err) {
			t.Errorf("%q: got %q, %v and left %q; want %q, %v and %q", tc.keys, got, err, rest, tc.want, tc.err, tc.rest)
		}
	}
}

func TestReader_ThroughAPipe(t *testing.T) {
	t.Parallel()
	r := New(strings.NewReader("first\r\nsecond\nlast"))
	if r.Terminal() {
		t.Error("a pipe is taken for a terminal")
	}
	for _, want := range []string{"first", "second", "last"} {
		if got, err := r.Hidden(t.Context(), io.Discard, "code: "); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := r.Line(t.Context()); got != "" || !errors.Is(err, ErrNone) {
		t.Errorf("after the end: got %q, %v, want %v", got, err, ErrNone)
	}
}

// One who is asked may stop, though nothing is typed.
func TestReader_StopsWithItsContext(t *testing.T) {
	t.Parallel()
	in, typist := io.Pipe()
	defer typist.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := New(in).Line(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
