package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/identity"
	"github.com/fulgidus/heimdall/packaging/answers"
	"github.com/fulgidus/heimdall/protocol"
)

// EnrollCmd exchanges a one-time code for the station's identity.
type EnrollCmd struct {
	configFlag `embed:""`
	Code       string `arg:"" help:"Where the code is: a file, or - for standard input, where a terminal asks for it."`
}

// Help begins with the example.
func (EnrollCmd) Help() string {
	return "Example:  sudo heimdall-agent enroll -\n\n" +
		"The operator of the network makes the code with `heimdall-collector station code ID`. It is never given as an argument, which others\n" +
		"on this computer could read. Before the collector is told anything it has to prove that it made the code. The key is made here and\n" +
		"does not leave; what the configuration says of the broker is set, all else in it stays."
}

// Run is called by the command line.
func (c EnrollCmd) Run(ctx context.Context, s streams) error {
	code, err := readCode(ctx, c.Code, answers.New(os.Stdin), s.err)
	if errors.Is(err, context.Canceled) {
		return errNothingWritten
	}
	if err != nil {
		return usageError{err}
	}
	path, cfg, err := c.target()
	if err != nil {
		return usageError{err}
	}
	state, err := filepath.Abs(cfg.Spool.Path)
	if err != nil {
		return err
	}
	if err := ready(path, state); err != nil {
		return fmt.Errorf("the code was not used: %w", err)
	}
	now := trueTime(newClock(cfg, slog.New(slog.DiscardHandler)))
	if err := identity.Meet(ctx, code, now); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s, certificate %s\n", code.Host, shortly(code.Authority))
	granted, err := identity.Enrol(ctx, code, cfg.Station.ID, version, now)
	if err != nil {
		return err
	}
	files, err := granted.Save(state)
	if err != nil {
		return err
	}
	if err := joinConfig(path, granted, files); err != nil {
		return fmt.Errorf("%s is enrolled, its certificate is in %s, but the configuration is as it was: %w", granted.Station, filepath.Dir(files.Station), err)
	}
	fmt.Fprintf(s.out, "station %s is enrolled until %s, and renews that by itself\nWrote %s. Next: ", granted.Station, dateOf(granted.Expires), path)
	if len(cfg.Receivers) == 0 {
		_, err = fmt.Fprintln(s.out, "add a receiver to it (receivers), then `heimdall-agent check`.")
		return err
	}
	_, err = fmt.Fprintln(s.out, nextOf(ctx, cfg, path))
	return err
}

// ready refuses an enrolment whose outcome could not be written.
func ready(path, state string) error {
	if err := joinable(path); err != nil {
		return err
	}
	if err := writable(path); err != nil {
		return err
	}
	return identity.Writable(state)
}

// nextOf is what brings the agent to use a certificate, of the configuration as it was and the file that says it now.
func nextOf(ctx context.Context, before Config, path string) string {
	running, err := askStatus(ctx, before.Spool.Path)
	if errors.Is(err, errNotRunning) {
		return fmt.Sprintf("start the agent: `sudo heimdall-agent service start` where it is a service, otherwise `heimdall-agent run --config %s`.", path)
	}
	if after, fault := LoadConfig(path); err == nil && fault == nil && after.MQTT == before.MQTT && running.Broker.URL == after.MQTT.URL {
		return "nothing: the running agent takes the certificate by itself when it connects next."
	}
	return "restart the agent, which reads its configuration when it starts: `sudo heimdall-agent service restart` where it is a service, otherwise end and repeat `heimdall-agent run`."
}

// target is the configuration to write, and what it says now; the defaults where the system has none yet.
func (c EnrollCmd) target() (path string, cfg Config, err error) {
	path, err = findConfig(c.Config)
	if errors.Is(err, errNoConfig) {
		return systemConfig(), DefaultConfig(), nil
	}
	if err != nil {
		return "", cfg, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", cfg, err
	}
	cfg, err = LoadConfig(path)
	return path, cfg, err
}

// readCode reads a code from a file, from standard input, or from whoever sits at the terminal.
func readCode(ctx context.Context, from string, in *answers.Reader, w io.Writer) (protocol.EnrolmentCode, error) {
	var text string
	switch {
	case strings.HasPrefix(strings.ToLower(from), "hd1."):
		return protocol.EnrolmentCode{}, errors.New("a code is no argument, for others on this computer can read those, and it may be in the shell's history: " +
			"write - and type it in, or name a file; ask for another code if others use this computer")
	case from == "-":
		line, err := in.Hidden(ctx, w, "code: ")
		if err != nil {
			return protocol.EnrolmentCode{}, fmt.Errorf("read the code: %w", err)
		}
		text = line
	default:
		file, err := os.ReadFile(from)
		if err != nil {
			return protocol.EnrolmentCode{}, fmt.Errorf("read the code: %w", err)
		}
		text = string(file)
	}
	return protocol.ParseEnrolmentCode(text)
}

// dateOf is the date of a time as the wire writes it.
func dateOf(text string) string {
	date, _, _ := strings.Cut(text, "T")
	return date
}

// shortly is a fingerprint as a person compares it: its beginning and its end. The code holds all of it.
func shortly(f protocol.Fingerprint) string {
	all := f.String()
	return all[:5] + ":..:" + all[len(all)-2:]
}

// trueTime is the time, and whether it is known.
func trueTime(c *clock.Clock) identity.Now {
	return func() (time.Time, bool) {
		r := c.Reading()
		return r.Time, r.Set
	}
}
