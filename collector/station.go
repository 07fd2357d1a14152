package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// StationCmd looks after stations.
type StationCmd struct {
	List        StationListCmd   `cmd:"" help:"How the stations are: last seen and why, clock, spool, loss, version."`
	Resume      ResumeCmd        `cmd:"" help:"Read a suspended station again before its time."`
	Code        StationCodeCmd   `cmd:"" help:"Make a code by which a station joins."`
	Rotate      StationRotateCmd `cmd:"" help:"Make a code that replaces a station's certificate."`
	Revoke      StationRevokeCmd `cmd:"" help:"Take everything from a station: certificate, account, session."`
	Remove      StationRemoveCmd `cmd:"" help:"Revoke a station, and empty what the broker retains of it."`
	Add         StationAddCmd    `cmd:"" help:"Make an account with a password, for a station that does not enrol."`
	RetireSpool RetireSpoolCmd   `cmd:"" help:"Declare what a spool that will never come back still owed as abandoned."`
}

// Help begins with the example.
func (StationCmd) Help() string {
	return "Example:  heimdall-collector station list"
}

// RetireSpoolCmd closes the account of a dead card.
type RetireSpoolCmd struct {
	configFlag `embed:""`
	Station    string `arg:"" help:"The station."`
	Spool      string `arg:"" help:"The spool, as verify prints it."`
}

// Help begins with the example.
func (RetireSpoolCmd) Help() string {
	return "Example:  heimdall-collector station retire-spool torino 1f00a2b3c4d5e6f7\n\nWhat the spool still owed counts as declared lost from then on, with the reason abandoned, and verify no longer calls it missing or pending. What arrives all the same is stored."
}

// Run is called by the command line.
func (c RetireSpoolCmd) Run(ctx context.Context, s streams) error {
	stream := protocol.Stream{Station: c.Station}
	raw, err := hex.DecodeString(c.Spool)
	if err != nil || len(raw) != protocol.SpoolBytes {
		return usageError{fmt.Errorf("SPOOL: %q: want %d hex digits, as `heimdall-collector verify` prints them", c.Spool, 2*protocol.SpoolBytes)}
	}
	stream.Spool = [protocol.SpoolBytes]byte(raw)
	if err := protocol.ValidStation(c.Station); err != nil {
		return usageError{fmt.Errorf("STATION: %w", err)}
	}
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	return c.account().do(func() error { return c.run(ctx, s, cfg, stream) })
}

func (c RetireSpoolCmd) run(ctx context.Context, s streams, cfg Config, stream protocol.Stream) error {
	db, err := openUsed(ctx, cfg, "station retire-spool")
	if err != nil {
		return err
	}
	defer db.Close()
	owed, err := db.RetireSpool(ctx, stream, operator())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%s %s: nothing is known of this spool; `heimdall-collector verify --station %s` lists the known ones", c.Station, c.Spool, c.Station)
	case err != nil:
		return err
	case owed.Empty():
		_, err = fmt.Fprintf(s.out, "%s %s owes nothing\n", c.Station, c.Spool)
	default:
		_, err = fmt.Fprintf(s.out, "%s %s: declared %d records as abandoned: %s\n", c.Station, c.Spool, owed.Count(), spans(owed))
	}
	return err
}

// ResumeCmd ends a suspension.
type ResumeCmd struct {
	configFlag `embed:""`
	Station    string `arg:"" help:"The station."`
}

// Help begins with the example.
func (ResumeCmd) Help() string {
	return "Example:  heimdall-collector station resume torino\n\nA station most of whose records are rejected is suspended: for a minute, then for two, at most for an hour, nothing is read of it. Its agent keeps what it has, so that nothing is lost. With this command collectors read it again within seconds."
}

// Run is called by the command line.
func (c ResumeCmd) Run(ctx context.Context, s streams) error {
	if err := protocol.ValidStation(c.Station); err != nil {
		return usageError{fmt.Errorf("STATION: %w", err)}
	}
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	db, err := openUsed(ctx, cfg, "station resume")
	if err != nil {
		return err
	}
	defer db.Close()
	ended, err := db.Resume(ctx, c.Station, operator())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%s: no station of this id has ever connected; `heimdall-collector station list` lists them", c.Station)
	case err != nil:
		return err
	case ended == nil:
		_, err = fmt.Fprintf(s.out, "%s is not suspended\n", c.Station)
	default:
		_, err = fmt.Fprintf(s.out, "%s is read again; it was suspended until %s: %s\n", c.Station, protocol.FormatTime(ended.Until), ended.Reason)
	}
	return err
}

// operator is who runs this command, as far as the system says.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return cmp.Or(os.Getenv("USER"), os.Getenv("USERNAME"), "unknown")
}
