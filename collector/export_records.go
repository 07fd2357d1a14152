package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/fulgidus/heimdall/configs"
)

// ExportRecordsCmd takes the records of one kind out.
type ExportRecordsCmd struct {
	remote    `embed:""`
	selection `embed:""`
	CSV       bool   `name:"csv" xor:"form" help:"Comma-separated values with a header. This is what it does without --json too."`
	JSON      bool   `name:"json" xor:"form" help:"One JSON record a line."`
	Output    string `short:"o" help:"Into this file instead of standard output." placeholder:"FILE"`

	kind string // its list in the API
	band bool   // its records have a frequency
}

// Help begins with the example.
func (c ExportRecordsCmd) Help() string {
	return fmt.Sprintf("Example:  heimdall-collector export %s --station torino --from -1d -o %s.csv\n\nNewest first.", c.kind, c.kind)
}

// Run is called by the command line.
func (c ExportRecordsCmd) Run(ctx context.Context, s streams) error {
	if !c.band && (c.Min != 0 || c.Max != 0) {
		return usageError{fmt.Errorf("--min and --max: %s have no frequency", c.kind)}
	}
	if err := c.known(ctx, c.Stations); err != nil {
		return err
	}
	progress := rowProgress{board: board{w: s.err}}
	write := func(w io.Writer) error { return c.write(ctx, io.MultiWriter(w, &progress)) }
	var err error
	if c.Output == "" || c.Output == "-" {
		_, _, progress.hidden = terminalSize(s.out) // rows and progress would run into each other
		err = write(s.out)
	} else {
		err = writeWhole(c.Output, write)
	}
	progress.end()
	return err
}

// write copies the list through. The collector breaks the connection when it cannot give all of it.
func (c ExportRecordsCmd) write(ctx context.Context, w io.Writer) error {
	form := "text/csv"
	if c.JSON {
		form = "application/x-ndjson"
	}
	path := "/api/v1/" + c.kind
	if query := c.query(); len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil, http.Header{"Accept": {form}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := failing{w: w}
	_, err = io.Copy(&out, resp.Body)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("export of %s broken off: what was written is not all there is; start the command again: %w", c.kind, ctx.Err())
	case out.err != nil:
		return fmt.Errorf("write %s: %w", c.kind, out.err)
	case err != nil:
		return fmt.Errorf("the collector broke off: %w; what was written is not all there is: export a shorter span of time with --from and --to", err)
	}
	return nil
}

// failing remembers that it was the writing that failed.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (n int, err error) {
	n, err = f.w.Write(p)
	f.err = errors.Join(f.err, err)
	return n, err
}

// rowProgress counts what goes through, and shows it on a terminal.
type rowProgress struct {
	board       board
	hidden      bool
	rows, bytes int64
	shown       time.Time
}

func (p *rowProgress) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	for _, c := range b {
		if c == '\n' {
			p.rows++
		}
	}
	if columns, rows, ok := terminalSize(p.board.w); ok && !p.hidden && time.Since(p.shown) > 100*time.Millisecond {
		p.shown = time.Now()
		p.board.draw([]string{fmt.Sprintf("%d lines, %s", p.rows, configs.Bytes(p.bytes))}, columns, rows)
	}
	return len(b), nil
}

// end takes the line away.
func (p *rowProgress) end() {
	if columns, rows, ok := terminalSize(p.board.w); ok && p.board.drawn > 0 {
		p.board.draw(nil, columns, rows)
	}
}
