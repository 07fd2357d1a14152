package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// NewLogger makes the program's log from its configuration: format is text or json, level debug, info, warn or error. Where w is the journal of systemd, each line begins with the priority that
// systemd reads and takes away, and has no time of its own: the journal stamps it.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var least slog.Level
	if least.UnmarshalText([]byte(level)) != nil {
		least = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: least}
	journal := IsJournal(w)
	var out bytes.Buffer
	target := w
	if journal {
		target = &out
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	var handler slog.Handler
	if format == "json" {
		handler = slog.NewJSONHandler(escaping{target}, options)
	} else {
		handler = slog.NewTextHandler(target, options)
	}
	if journal {
		handler = &journalHandler{Handler: handler, shared: &journalWriter{w: w, line: &out}}
	}
	return slog.New(handler)
}

// escaping writes what no terminal should be sent as JSON spells it, which the encoder does for some of it only: what comes from
// outside is in strings.
type escaping struct{ to io.Writer }

// Write tells of all or nothing of p.
func (e escaping) Write(p []byte) (int, error) {
	text := p
	if bytes.ContainsFunc(p, steers) {
		text = nil
		for _, r := range string(p) {
			if steers(r) {
				for _, half := range utf16.Encode([]rune{r}) {
					text = fmt.Appendf(text, "\\u%04x", half)
				}
				continue
			}
			text = utf8.AppendRune(text, r)
		}
	}
	if _, err := e.to.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

func steers(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// journalHandler puts the priority before each line of another handler.
type journalHandler struct {
	slog.Handler
	shared *journalWriter
}

// journalWriter is what the handlers of one log share.
type journalWriter struct {
	mu   sync.Mutex // guards line, and keeps lines whole
	line *bytes.Buffer
	w    io.Writer
}

// Handle writes the line with its priority in one piece.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	h.shared.line.Reset()
	h.shared.line.WriteString(priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.shared.w.Write(h.shared.line.Bytes())
	return err
}

// WithAttrs and WithGroup keep the priority.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.shared}
}

// WithGroup is like WithAttrs.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.shared}
}

// priority is the level as sd-daemon(3) has it.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// IsJournal tells whether w is the stream that systemd made to its journal.
func IsJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("JOURNAL_STREAM") != "" && os.Getenv("JOURNAL_STREAM") == deviceAndInode(f)
}
