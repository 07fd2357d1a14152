// Command heimdall-agent stands beside a receiver: it measures what is on air, keeps it on disk until the network has it,
// and records a stretch of IQ when it is asked to.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/dsp"
)

// version is set when a release is built.
var version = "dev"

// programName is the command, the service and the account of the service.
const programName = "heimdall-agent"

// commandLine is the whole command line; kong makes help, parsing and errors from it.
type commandLine struct {
	Setup   SetupCmd   `cmd:"" help:"Ask what the station needs to know, and write its configuration."`
	Enroll  EnrollCmd  `cmd:"" help:"Exchange a one-time code for the station's identity, and join a network."`
	Run     RunCmd     `cmd:"" help:"The service itself: survey, store, deliver."`
	Check   CheckCmd   `cmd:"" help:"Try everything: config, each receiver, clock, disk, broker, collector."`
	Tap     TapCmd     `cmd:"" help:"A live line a second of what is heard."`
	Status  StatusCmd  `cmd:"" help:"What the running agent says of itself."`
	Pause   PauseCmd   `cmd:"" help:"Stop listening, until resume."`
	Resume  ResumeCmd  `cmd:"" help:"Listen again."`
	Leave   LeaveCmd   `cmd:"" help:"Empty what the station has retained on the broker."`
	Spool   SpoolCmd   `cmd:"" help:"What waits on disk: stat, list, verify, export."`
	Measure MeasureCmd `cmd:"" help:"Analyse recordings with the same code that run uses."`
	Probe   ProbeCmd   `cmd:"" help:"What a source is: device, ranges, time, losses."`
	Service ServiceCmd `cmd:"" help:"Install, start and stop the agent as a service of this computer."`
	Bench   BenchCmd   `cmd:"" help:"How fast this computer surveys, and which sample rate it can carry."`
	Support SupportCmd `cmd:"" help:"One text to paste when asking for help, without passwords and the exact place."`
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
		kong.Name(programName),
		kong.Description("Example:  heimdall-agent measure g001_433.92M_250k.cu8\n\nHears what is on air beside a receiver and delivers it to the network."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(exampleFirst),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams{out: os.Stdout, err: os.Stderr}),
	)
	command, err := parser.Parse(args)
	if exit >= 0 { // --help was printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "heimdall-agent: %v (--help explains)\n", err)
		return exitUsage
	}
	if _, err := dsp.Engine(); err != nil {
		return exitCode(usageError{err})
	}
	return exitCode(command.Run())
}

// exampleFirst prints help that begins with the example, the part that can be copied.
func exampleFirst(options kong.HelpOptions, ctx *kong.Context) error {
	text := &ctx.Model.Help
	if command := ctx.Selected(); command != nil {
		text = &command.Detail
	}
	example, rest, _ := strings.Cut(*text, "\n\n")
	*text = rest
	if _, err := fmt.Fprintf(ctx.Stdout, "%s\n\n", example); err != nil {
		return err
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, err)
	}
	if _, renamed := errors.AsType[*spool.StationError](err); renamed || errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// VersionCmd prints the version.
type VersionCmd struct{}

// Help begins with the example.
func (VersionCmd) Help() string { return "Example:  heimdall-agent version" }

// Run is called by the command line.
func (VersionCmd) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "heimdall-agent %s\n", version)
	return err
}
