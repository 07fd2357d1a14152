package support

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Part is one section of the text.
type Part struct {
	Title string
	Limit time.Duration // after it the part is left out; 0: usual
	Write func(ctx context.Context, w io.Writer) error
}

// usual is how long a part may take that asks this computer only.
const usual = 5 * time.Second

// Write writes the parts one after the other. A part that fails says so in its place, and one that hangs is left: the rest may
// tell why. The error is of w, or of the context when it ended.
func Write(ctx context.Context, w io.Writer, secrets *Secrets, parts []Part) error {
	for _, p := range parts {
		text := p.run(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "\n== %s\n%s", p.Title, secrets.Hide(text)); err != nil {
			return fmt.Errorf("write the text: %w", err)
		}
	}
	return nil
}

// run is what the part says. The goroutine of a part that heeds no context, as one that asks a file system that has gone, is
// left behind with its buffer: the program ends soon after.
func (p Part) run(ctx context.Context) string {
	limit := p.Limit
	if limit == 0 {
		limit = usual
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said := make(chan string, 1)
	go func() {
		var text bytes.Buffer
		if err := p.Write(ctx, &text); err != nil {
			fmt.Fprintf(&text, "error: %v\n", err)
		}
		said <- strings.TrimRight(text.String(), "\n") + "\n"
	}()
	const grace = time.Second // for those that heed the context to say what they have
	hung := time.NewTimer(limit + grace)
	defer hung.Stop()
	select {
	case text := <-said:
		return text
	case <-hung.C:
		return fmt.Sprintf("error: no answer within %s\n", limit)
	}
}

// Title is how the text begins.
func Title(program, version string, now time.Time) string {
	return fmt.Sprintf("%s support, %s, %s\n"+
		"Passwords, tokens and the exact place are hidden; names of hosts, files and stations are not. Read it before you paste it.\n",
		program, version, now.UTC().Format(time.RFC3339))
}

// Create opens the file that the text goes to, readable by its owner only; standard output for an empty path. done says on it
// where the text is.
func Create(path string, out io.Writer) (w io.Writer, done func() error, err error) {
	if path == "" {
		return out, func() error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("--out: %w", err)
	}
	return f, func() error {
		if err := f.Close(); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		_, err := fmt.Fprintf(out, "wrote %s: read it before you send it\n", path)
		return err
	}, nil
}
