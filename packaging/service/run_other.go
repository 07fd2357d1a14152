//go:build !windows

package service

import (
	"context"
	"io"
	"os"
)

// Run calls a service's program with the writer of its log. On Windows it speaks with the service control manager meanwhile, and
// the log goes to the event log.
func Run(ctx context.Context, _ string, w io.Writer, program func(context.Context, io.Writer) error) error {
	crashBySignal()
	return program(ctx, w)
}

func isAdmin() bool { return os.Getuid() == 0 }
