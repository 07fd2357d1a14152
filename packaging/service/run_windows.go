package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
)

// Run calls a service's program with the writer of its log. Where the service control manager started it, the program ends when
// that asks it to, and its log is the event log.
func Run(ctx context.Context, name string, w io.Writer, program func(context.Context, io.Writer) error) error {
	crashBySignal()
	if service.Interactive() {
		return program(ctx, w)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	h := &hosted{stop: stop, ended: make(chan error, 1)}
	s, err := service.New(h, &service.Config{Name: name})
	if err != nil {
		return err
	}
	log, err := s.SystemLogger(nil)
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	h.start = func() {
		err := program(ctx, eventLog{log})
		if ctx.Err() == nil && err != nil { // the service manager takes an end without a word for a failure, and starts it anew
			_ = log.Error(err)
			os.Exit(1)
		}
		h.ended <- err
	}
	return s.Run()
}

// hosted is a program under the service control manager.
type hosted struct {
	start func()
	stop  context.CancelFunc
	ended chan error // capacity 1: told once, when the program has ended
}

// Start must not block.
func (h *hosted) Start(service.Service) error {
	go h.start()
	return nil
}

// Stop waits for the program.
func (h *hosted) Stop(service.Service) error {
	h.stop()
	return <-h.ended
}

// eventLog writes each line of a log as an event.
type eventLog struct{ log service.Logger }

// Write takes one line.
func (e eventLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	write := e.log.Info
	switch {
	case strings.Contains(text, "level=ERROR"), strings.Contains(text, `"level":"ERROR"`):
		write = e.log.Error
	case strings.Contains(text, "level=WARN"), strings.Contains(text, `"level":"WARN"`):
		write = e.log.Warning
	}
	return len(line), write(text)
}

func isAdmin() bool { return windows.GetCurrentProcessToken().IsElevated() }
