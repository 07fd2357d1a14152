//go:build linux

// Command dsp measures the survey chain, raw samples to averaged spectrum, against other programs on this machine in one run.
// See README.md in the folder above.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/fulgidus/heimdall/packaging/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errFlags): // package flag has said it
		os.Exit(2)
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// errFlags is a flag that there is not, or of which the value cannot be read.
var errFlags = errors.New("wrong flags")

// usageError is what nobody can have meant.
type usageError struct{ error }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "gonum" {
		return runGonum(os.Stdout, args[1:])
	}
	flags := flag.NewFlagSet("dsp", flag.ContinueOnError)
	rounds := flags.Int("rounds", 7, "rounds of all programs in turn")
	only := flags.String("only", "", "cases to run, by regular expression: cu8_4096")
	agent := flags.String("agent", "bin/heimdall-agent", "our program")
	scripts := flags.String("peers", "packaging/bench/dsp/peers", "folder of the peers in Python")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errFlags
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("argument %q: there are only flags, such as -only %s", flags.Arg(0), flags.Arg(0))}
	case *rounds < 1:
		return usageError{fmt.Errorf("-rounds %d: want 1 or more", *rounds)}
	}
	cases, err := casesLike(*only)
	if err != nil {
		return usageError{err}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b := bench{
		programs: programs(self, *agent, *scripts, filepath.Join(servers.CacheDir(), "bin")),
		cases:    cases,
		progress: os.Stderr,
	}
	before := load()
	err = b.run(ctx, *rounds)
	fmt.Printf("%s; load %s before, %s after\n", processor(), before, load())
	b.print(os.Stdout) // also what was measured until it was told to end
	return err
}
