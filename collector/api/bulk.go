package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// The forms of a list in bulk.
const (
	csvType   = "text/csv"
	linesType = "application/x-ndjson"
	jsonlType = "application/jsonl" // the same under its other name
)

func listTypes() []string { return []string{jsonType, csvType, linesType, jsonlType} }

const (
	// bulkPage is how many rows are in memory for one client.
	bulkPage = 500
	// mostBulk is how many clients may read in bulk at once.
	mostBulk = 16
	// bulkPatience is how long a client may take to read one piece of a bulk read.
	bulkPatience = 30 * time.Second
	// bulkBuffer is one piece, in bytes.
	bulkBuffer = 32 << 10
)

// bulkRead is one list in bulk.
type bulkRead struct {
	form    string
	columns []column
	read    pager
	most    int    // rows
	cursor  string // where to begin; empty at the beginning
}

// sendBulk sends a list row by row, page by page out of the store. What goes wrong after the first piece breaks the
// connection, so that the client cannot take what it has for all that there is.
func (s *server) sendBulk(w http.ResponseWriter, r *http.Request, b bulkRead) error {
	if who := callerOf(r.Context()); who.secret != "" {
		if !s.openBulk.begin(who.name, mostOpenBulk) {
			return tooMany.after(5*time.Second, fmt.Sprintf("%d lists are being read in bulk with this token", mostOpenBulk))
		}
		defer s.openBulk.end(who.name)
	}
	select {
	case s.bulk <- struct{}{}:
		defer func() { <-s.bulk }()
	default:
		return unavailable.with(fmt.Sprintf("%d others read in bulk at the moment", mostBulk))
	}
	items, err := b.next(r.Context())
	if err != nil {
		return err
	}
	out := rowWriter{Writer: bufio.NewWriterSize(w, bulkBuffer), lines: b.form != csvType, tree: newTree(b.columns)}
	mediaType := b.form
	if !out.lines {
		mediaType += "; charset=utf-8; header=present"
	}
	w.Header().Set("Content-Type", mediaType)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := stream(w, bulkPatience); err != nil {
		return err
	}
	out.header(b.columns)
	for {
		for _, item := range items {
			if err := out.row(item); err != nil {
				return err
			}
		}
		if b.cursor == "" || b.most == 0 {
			break
		}
		if err := out.flush(w); err != nil {
			panic(http.ErrAbortHandler) // the client has gone, or does not read
		}
		if items, err = b.next(r.Context()); err != nil {
			return err
		}
	}
	if err := out.flush(w); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// next reads the next page.
func (b *bulkRead) next(ctx context.Context) ([]json.RawMessage, error) {
	items, next, err := b.read(ctx, min(bulkPage, b.most), b.cursor)
	if err != nil {
		return nil, err
	}
	items = items[:min(len(items), b.most)] // stations come all at once
	b.most -= len(items)
	b.cursor = next
	return items, nil
}

// rowWriter writes rows as CSV or as JSON lines. A fault in writing shows in flush.
type rowWriter struct {
	*bufio.Writer
	lines bool
	tree  *tree
	cells []json.RawMessage
	text  []byte // of the row at hand
}

func (o *rowWriter) header(columns []column) {
	if o.lines {
		return
	}
	o.cells = make([]json.RawMessage, len(columns))
	for i, c := range columns {
		o.text = appendText(appendComma(o.text, i), []byte(c.name))
	}
	o.end()
}

func (o *rowWriter) row(item json.RawMessage) error {
	if o.lines {
		o.text = append(append(o.text, item...), '\n')
		o.write()
		return nil
	}
	clear(o.cells)
	if err := o.tree.fill(item, o.cells); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	for i, cell := range o.cells {
		var err error
		if o.text, err = appendCell(appendComma(o.text, i), cell); err != nil {
			return fmt.Errorf("write CSV: %w", err)
		}
	}
	o.end()
	return nil
}

func (o *rowWriter) end() {
	o.text = append(o.text, '\r', '\n')
	o.write()
}

func (o *rowWriter) write() {
	_, _ = o.Write(o.text) // the buffer keeps the error
	o.text = o.text[:0]
}

// flush sends what is in the buffer.
func (o *rowWriter) flush(w http.ResponseWriter) error {
	if err := o.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
