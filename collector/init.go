package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/packaging/service"
)

// InitCmd asks where a collector's servers are, tries them, and writes the configuration.
type InitCmd struct {
	Store   string `help:"The database, as in store.url." placeholder:"URL"`
	MQTT    string `name:"mqtt" help:"The broker, as in mqtt.url; or embedded." placeholder:"URL"`
	Archive string `help:"Where recordings are kept, as in archive.url." placeholder:"URL"`
	Config  string `help:"Where to write the configuration; the system's own place otherwise." placeholder:"F"`
	Yes     bool   `help:"Take what is proposed, and ask only for accounts that a server wants."`
	Force   bool   `help:"Write over a configuration that is there; the former one stays beside it."`
}

// Help begins with the example.
func (InitCmd) Help() string {
	return "Example:  heimdall-collector init --store 'postgres:///heimdall?host=/run/postgresql' --mqtt mqtt://127.0.0.1:1883\n\n" +
		"Three questions: database, broker, recordings. What is answered is tried at once; what does not work is told, and asked again. An\n" +
		"account is asked for where a server wants one. Its secret is no argument: type it, name a file (file:PATH), send it on standard\n" +
		"input, or set the same variables of the environment as for `run`. It is kept in a file beside the configuration. When this is broken\n" +
		"off, the next call proposes what was answered."
}

// Run is called by the command line.
func (c InitCmd) Run(ctx context.Context, s streams) error {
	path := c.Config
	if path == "" {
		path = systemConfig()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return usageError{err}
	}
	if _, err := os.Stat(path); err == nil && !c.Force {
		return fmt.Errorf("%s is there already: change it with an editor, write over it with --force, or name another place with --config", path)
	}
	if err := willBeMade(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the configuration: %w; run it with sudo, or name another place with --config", err)
	}
	i := &interview{
		in: answers.New(os.Stdin), out: s.out, yes: c.Yes, path: path,
		given: map[string]string{"database": c.Store, "broker": c.MQTT, "objects": c.Archive},
	}
	if path == systemConfig() {
		i.as = accountOf(programName)
	}
	err = i.collector(ctx)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(s.out)
		if !isFile(i.draft()) {
			return errors.New("stopped: no configuration was written")
		}
		return errors.New("stopped: no configuration was written; the next call proposes what was answered")
	}
	return err
}

// interview is the conversation of init.
type interview struct {
	in    *answers.Reader
	out   io.Writer
	yes   bool
	path  string            // of the configuration
	given map[string]string // answers from the command line
	as    account           // which the collector will run as; zero: this one

	cfg        Config
	references map[string]string // file:PATH by the key of the secret in it
	answered   bool              // somebody has typed something that is not to be typed again
}

// collector asks, tries, and writes.
func (i *interview) collector(ctx context.Context) error {
	if err := i.begin(); err != nil {
		return err
	}
	return i.collectorFrom(ctx)
}

// collectorFrom is collector once it is known what to propose.
func (i *interview) collectorFrom(ctx context.Context) error {
	for _, ask := range []func(context.Context) error{i.database, i.broker, i.objects, i.api} {
		if err := ask(ctx); err != nil {
			return err
		}
		if err := i.keepDraft(); err != nil {
			return err
		}
	}
	applied, err := i.agreed(ctx)
	if err != nil {
		return err
	}
	if !applied {
		_, err := fmt.Fprintln(i.out, "Nothing was written. The next call proposes these answers.")
		return err
	}
	if err := i.write(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.out, "Wrote %s.\nNext: %s\n", i.path, i.next())
	return err
}

// agreed asks once more, and brings the database up to date.
func (i *interview) agreed(ctx context.Context) (bool, error) {
	pending, err := i.pendingMigrations(ctx)
	if err != nil {
		return false, err
	}
	if isFile(i.path) {
		fmt.Fprintf(i.out, "Only what init asks for is taken over: all else that %s says is dropped. That file stays as %s.\n", i.path, i.former())
	}
	question := "Write " + i.path + "?"
	if pending > 0 {
		question = fmt.Sprintf("Apply %s and write %s?", plural(pending, "migration"), i.path)
	}
	yes, err := i.agree(ctx, question)
	if err != nil || !yes || pending == 0 {
		return yes, err
	}
	return true, i.as.do(func() error { return i.migrate(ctx) })
}

// next is what to type now.
func (i *interview) next() string {
	m := service.Manager{Program: programName, Config: i.path, Out: i.out}
	if i.path == systemConfig() && m.Possible() == nil {
		return "sudo systemctl enable --now heimdall-collector && sudo heimdall-collector check --wait 30s"
	}
	return "heimdall-collector run --config " + i.path
}

// ask asks a question; an empty answer is what is proposed.
func (i *interview) ask(ctx context.Context, question, proposed string) (string, error) {
	fmt.Fprint(i.out, question)
	if proposed != "" {
		fmt.Fprintf(i.out, " [%s]", proposed)
	}
	if !strings.HasSuffix(question, "?") {
		fmt.Fprint(i.out, ":")
	}
	fmt.Fprint(i.out, " ")
	if i.yes && proposed != "" {
		fmt.Fprintln(i.out, proposed)
		return proposed, nil
	}
	answer, err := i.in.Line(ctx)
	if !i.in.Terminal() {
		fmt.Fprintln(i.out)
	}
	if err != nil {
		return "", err
	}
	if answer = strings.TrimSpace(answer); answer == "" {
		return proposed, nil
	}
	i.answered = true
	return answer, nil
}

// agree asks a question of yes or no, which is no unless somebody says yes.
func (i *interview) agree(ctx context.Context, question string) (bool, error) {
	if i.yes {
		_, err := fmt.Fprintln(i.out, question, "[y/N] y")
		return true, err
	}
	for {
		answer, err := i.ask(ctx, question, "y/N")
		if err != nil {
			return false, err
		}
		switch strings.ToLower(answer) {
		case "y", "yes":
			return true, nil
		case "y/n", "n", "no":
			return false, nil
		}
	}
}

// until asks again as long as the answer is not taken. What the command line gave is tried first. Without somebody who answers, the
// first refusal ends it.
func (i *interview) until(ctx context.Context, what, want, proposed string, take func(answer string) error) error {
	answer := i.given[what]
	for {
		if answer == "" {
			var err error
			if answer, err = i.ask(ctx, what+", "+want, proposed); err != nil {
				return err
			}
		}
		err := take(answer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case answers.Ended(err) || i.yes:
			return fmt.Errorf("%s: %w", what, err)
		}
		fmt.Fprintf(i.out, "           %v\n", err)
		if !hasPassword(answer) {
			proposed = answer
		}
		answer = ""
	}
}

// found says what a server is.
func (i *interview) found(what, answer, detail string) {
	fmt.Fprintf(i.out, "%-10s %-38s %s\n", what, answer, detail)
}

// dataFolder is where the embedded parts are proposed: a service's own directory, or below the one where this is typed.
func (i *interview) dataFolder() (string, error) {
	if i.path == systemConfig() && runtime.GOOS == "linux" {
		return "/var/lib/heimdall-collector/heimdall-data", nil
	}
	return filepath.Abs("heimdall-data")
}
