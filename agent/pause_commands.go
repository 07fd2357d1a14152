package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/protocol"
)

// PauseCmd is the owner's own switch.
type PauseCmd struct {
	configFlag `embed:""`
	Reason     string `help:"Why, for those who look at the station." placeholder:"TEXT"`
}

// Help begins with the example.
func (PauseCmd) Help() string {
	return "Example:  heimdall-agent pause --reason \"guests\"\n\n" +
		"Closes the receivers and forgets what they heard last, until `heimdall-agent resume`, over restarts too. Needs no network and no " +
		"running agent. What was measured before is still delivered."
}

// Run is called by the command line.
func (c PauseCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	if err := (ownSwitch{cfg.Spool.Path}).pause(newClock(cfg, slog.New(slog.DiscardHandler)).Now(), c.Reason); err != nil {
		return err
	}
	return obeyed(ctx, cfg, s, "the station is paused: its receivers are closed", "the station is paused; no agent runs here now")
}

// ResumeCmd takes a pause back.
type ResumeCmd struct {
	configFlag `embed:""`
}

// Help begins with the example.
func (ResumeCmd) Help() string {
	return "Example:  heimdall-agent resume\n\nEnds a pause. How long it was is told to the network, as a gap."
}

// Run is called by the command line.
func (c ResumeCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	was, err := ownSwitch{cfg.Spool.Path}.resume(newClock(cfg, slog.New(slog.DiscardHandler)).Now())
	if err != nil {
		return err
	}
	if !was {
		_, err := fmt.Fprintln(s.out, "the station was not paused")
		return err
	}
	return obeyed(ctx, cfg, s, "the station listens again", "the station is no longer paused; no agent runs here now")
}

// obeyWait is how long receivers may take to close.
const obeyWait = 30 * time.Second

// obeyed has a running agent do what the switch says, and says which of the two it is.
func obeyed(ctx context.Context, cfg Config, s streams, running, alone string) error {
	ctx, cancel := context.WithTimeout(ctx, obeyWait)
	defer cancel()
	body, err := requestAgent(ctx, http.MethodPost, cfg.Spool.Path, "/switch")
	switch {
	case errors.Is(err, errNotRunning):
		running = alone
	case err != nil:
		return fmt.Errorf("the switch is set, and the agent obeys within seconds: %w", err)
	default:
		body.Close()
	}
	_, err = fmt.Fprintln(s.out, running)
	return err
}

// LeaveCmd takes the station off the broker.
type LeaveCmd struct {
	configFlag `embed:""`
}

// Help begins with the example.
func (LeaveCmd) Help() string {
	return "Example:  heimdall-agent leave\n\n" +
		"Empties what the station has retained on the broker: status, info, state, and its device in Home Assistant. Stop the agent before. " +
		"What stays, and who can remove it, is said at the end."
}

// Run is called by the command line.
func (c LeaveCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	if cfg.MQTT.URL == "" {
		return usageError{errors.New("mqtt.url: missing: the station has no broker, and has retained nothing")}
	}
	switch _, err := askStatus(ctx, cfg.Spool.Path); {
	case err == nil:
		return errors.New("the agent is running, and would be there again at once: stop it first (heimdall-agent service stop, or Ctrl-C)")
	case !errors.Is(err, errNotRunning):
		return err
	}
	topics := retainedTopics(cfg)
	ctx, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	if err := link.Clear(ctx, linkConfig(cfg), topics); err != nil {
		return fmt.Errorf("%s: %s", cfg.MQTT.URL, brokerFault(ctx, err))
	}
	for _, topic := range topics {
		fmt.Fprintln(s.out, "emptied", topic)
	}
	if err := os.Remove(discoveryMark(cfg)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget that Home Assistant knows the station: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "What stays: the spool and the configuration here (%s; delete them when nothing of them is needed), and with the network what it has stored, "+
		"its acknowledgements for 30 days, and the station's account or certificate: its operator removes those with `heimdall-collector station remove %s`.\n",
		cfg.Spool.Path, cfg.Station.ID)
	return err
}

// retainedTopics are all that the agent publishes retained.
func retainedTopics(cfg Config) []string {
	topics := protocol.Topics{Prefix: cfg.MQTT.Prefix}
	all := []string{topics.State(cfg.Station.ID), topics.Info(cfg.Station.ID), topics.Status(cfg.Station.ID)}
	before := describedAt(cfg)
	if before != "" {
		all = append(all, before)
	}
	if topic := cfg.discoveryTopic(); cfg.MQTT.HomeAssistant.Enabled && topic != before {
		all = append(all, topic)
	}
	return all
}
