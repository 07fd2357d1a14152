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
	"regexp"
	"syscall"

	"github.com/fulgidus/heimdall/packaging/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "gonum" {
		return runGonum(os.Stdout, args[1:])
	}
	flags := flag.NewFlagSet("dsp", flag.ContinueOnError)
	rounds := flags.Int("rounds", 7, "rounds of all programs in turn")
	only := flags.String("only", "", "cases to run, by regular expression: cu8_4096")
	agent := flags.String("agent", "bin/heimdall-agent", "our program")
	scripts := flags.String("peers", "packaging/bench/dsp/peers", "folder of the peers in Python")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b := bench{
		programs: programs(self, *agent, *scripts, filepath.Join(servers.CacheDir(), "bin")),
		progress: os.Stderr,
	}
	for _, c := range allCases() {
		if wanted.MatchString(c.String()) {
			b.cases = append(b.cases, c)
		}
	}
	before := load()
	err = b.run(ctx, *rounds)
	fmt.Printf("%s; load %s before, %s after\n", processor(), before, load())
	b.print(os.Stdout) // also what was measured until it was told to end
	return err
}
