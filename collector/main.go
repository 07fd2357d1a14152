// Command heimdall-collector gathers what stations hear, keeps it, and asks them to listen together.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set when a release is built.
var version = "dev"

// commandLine is the whole command line; kong makes help, parsing and errors from it.
type commandLine struct {
	Run     RunCmd     `cmd:"" help:"The service itself. Without a config, everything is embedded in ./heimdall-data."`
	Demo    DemoCmd    `cmd:"" help:"Seven simulated stations hear one transmitter, on this machine only."`
	Acquire AcquireCmd `cmd:"" help:"Ask stations for the same stretch of time."`
	Tap     TapCmd     `cmd:"" help:"A live view of what stations send."`
	Verify  VerifyCmd  `cmd:"" help:"Prove that nothing is missing and nothing is there twice."`
	Check   CheckCmd   `cmd:"" help:"Try everything: config, database, archive, broker."`
	Migrate MigrateCmd `cmd:"" help:"Bring the database up to date."`
	Version VersionCmd `cmd:"" help:"Print the version."`
}

// Exit codes of the contract.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a fault in what the user wrote: arguments or configuration. Services do not restart on it.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errReported ends a command that has already said what failed.
var errReported = errors.New("failed")

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	var line commandLine
	exit := -1
	parser := kong.Must(&line,
		kong.Name("heimdall-collector"),
		kong.Description("Example:  heimdall-collector demo\n\nGathers what a network of radio stations hears, and asks them to listen together."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{out: os.Stdout, err: os.Stderr}),
	)
	command, err := parser.Parse(args)
	if exit >= 0 { // --help was printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "heimdall-collector: %v (--help explains)\n", err)
		return exitUsage
	}
	return exitCode(command.Run())
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, err)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// VersionCmd prints the version.
type VersionCmd struct{}

// Run is called by the command line.
func (VersionCmd) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "heimdall-collector %s\n", version)
	return err
}
