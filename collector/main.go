// Command heimdall-collector gathers what stations hear, keeps it, and asks them to listen together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
)

// version is set when a release is built.
var version = "dev"

// programName is the command, the service and the account of the service.
const programName = "heimdall-collector"

// commandLine is the whole command line; kong makes help, parsing and errors from it.
type commandLine struct {
	Run        RunCmd        `cmd:"" help:"The service itself. Without a config, everything is embedded in ./heimdall-data."`
	Init       InitCmd       `cmd:"" help:"Ask for database, broker and object store, try each, and write the configuration."`
	Demo       DemoCmd       `cmd:"" help:"Seven simulated stations hear one transmitter, on this machine only."`
	Acquire    AcquireCmd    `cmd:"" help:"Ask stations for the same stretch of time."`
	Recordings RecordingsCmd `cmd:"" help:"List the recordings of IQ."`
	Export     ExportCmd     `cmd:"" help:"Take recordings and records out, as SigMF and CSV."`
	Tap        TapCmd        `cmd:"" help:"A live view of what stations send."`
	Verify     VerifyCmd     `cmd:"" help:"Prove that nothing is missing and nothing is there twice."`
	Station    StationCmd    `cmd:"" help:"Look after stations."`
	Subscriber SubscriberCmd `cmd:"" help:"Look after those who read what stations publish, at the broker."`
	Token      TokenCmd      `cmd:"" help:"Look after the tokens of the REST API: who may ask, and for what."`
	Check      CheckCmd      `cmd:"" help:"Try everything: config, database, archive, broker."`
	Backup     BackupCmd     `cmd:"" help:"Copy everything that is not in the archive into a folder, while collectors run."`
	Restore    RestoreCmd    `cmd:"" help:"Put such a copy back."`
	Migrate    MigrateCmd    `cmd:"" help:"Bring the database up to date."`
	Service    ServiceCmd    `cmd:"" help:"Install, start and stop the collector as a service of this computer."`
	Support    SupportCmd    `cmd:"" help:"One text to paste when asking for help, without passwords."`
	Version    VersionCmd    `cmd:"" help:"Print the version."`
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
	os.Exit(run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr}))
}

func run(args []string, s streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	line := commandLine{Export: newExportCmd()}
	exit := -1
	parser := kong.Must(&line,
		kong.Name(programName),
		kong.Description("Example:  heimdall-collector demo\n\nGathers what a network of radio stations hears, and asks them to listen together."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(exampleFirst),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
		kong.TypeMapper(reflect.TypeFor[configs.Hertz](), kong.MapperFunc(readHertz)),
	)
	command, err := parser.Parse(args)
	if exit >= 0 { // --help was printed
		return exit
	}
	if err == nil {
		err = givenEmpty(command)
	}
	if err != nil {
		fmt.Fprintf(s.err, "heimdall-collector: %v (--help explains)\n", err)
		return exitUsage
	}
	return exitCode(command.Run(), s.err)
}

// givenEmpty refuses text that was given and is empty, as by a script whose variable is not set: nobody means by it what leaving
// it out means.
func givenEmpty(command *kong.Context) error {
	for _, given := range command.Path {
		var value *kong.Value
		var name string
		switch {
		case given.Flag != nil:
			value, name = given.Flag.Value, "--"+given.Flag.Name
		case given.Positional != nil:
			value, name = given.Positional, "<"+given.Positional.Name+">"
		default:
			continue
		}
		switch text := value.Target.Interface().(type) {
		case string:
			if text == "" {
				return fmt.Errorf("%s: an empty value; write one, or leave it out", name)
			}
		case []string:
			if len(text) == 0 || slices.Contains(text, "") {
				return fmt.Errorf("%s: an empty name; write one or several, like torino,genova, or leave it out", name)
			}
		}
	}
	return nil
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

// exitCode is what the program ends with after an error, which it prints unless that has been done. A database that is
// no place to work in is like a fault of the configuration: a service manager's next attempt ends alike.
func exitCode(err error, w io.Writer) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(w, plainLines(err.Error()))
	}
	if errors.As(err, new(usageError)) || lasting(err) {
		return exitUsage
	}
	return exitFailed
}

// lasting tells whether no waiting changes an error: the database is another version's, or another program's.
func lasting(err error) bool {
	return errors.As(err, new(*store.NewerError)) || errors.Is(err, store.ErrForeign)
}

// VersionCmd prints the version.
type VersionCmd struct{}

// Help begins with the example.
func (VersionCmd) Help() string { return "Example:  heimdall-collector version" }

// Run is called by the command line.
func (VersionCmd) Run(s streams) error {
	_, err := fmt.Fprintf(s.out, "heimdall-collector %s\n", version)
	return err
}
