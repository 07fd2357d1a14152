package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// StationCodeCmd makes a code for a station that is to join.
type StationCodeCmd struct {
	remote  `embed:""`
	Station string           `arg:"" help:"The id that the station gets."`
	TTL     configs.Duration `name:"ttl" help:"How long it may be used, 1m to 7d." default:"1h" placeholder:"D"`
}

// Help begins with the example.
func (StationCodeCmd) Help() string {
	return "Example:  heimdall-collector station code hb9-dl1abc\n\n" +
		"Prints a code for one use by that station, for an hour unless --ttl says otherwise. Hand it over where others do not read along; at the\n" +
		"station `heimdall-agent enroll -` or `heimdall-agent setup` asks for it. It makes those void that the station was given before."
}

// Run is called by the command line.
func (c StationCodeCmd) Run(ctx context.Context, s streams) error {
	return c.mint(ctx, s, c.Station, c.TTL, false)
}

// StationRotateCmd replaces a station's certificate.
type StationRotateCmd struct {
	remote  `embed:""`
	Station string           `arg:"" help:"The station."`
	TTL     configs.Duration `name:"ttl" help:"How long the code may be used, 1m to 7d." default:"1h" placeholder:"D"`
}

// Help begins with the example.
func (StationRotateCmd) Help() string {
	return "Example:  heimdall-collector station rotate hb9-dl1abc\n\n" +
		"Prints a new code for a station that is enrolled. Once it has enrolled again, its earlier certificate is refused; until then it goes on."
}

// Run is called by the command line.
func (c StationRotateCmd) Run(ctx context.Context, s streams) error {
	return c.mint(ctx, s, c.Station, c.TTL, true)
}

// mint asks for a code and prints it.
func (r remote) mint(ctx context.Context, s streams, station string, ttl configs.Duration, replace bool) error {
	if err := protocol.ValidStation(station); err != nil {
		return usageError{fmt.Errorf("STATION: %w", err)}
	}
	if err := authority.ValidCodeLife(time.Duration(ttl)); err != nil {
		return usageError{fmt.Errorf("--ttl %s: %w", ttl, err)}
	}
	body := map[string]any{"ttl": ttl.String(), "replace": replace}
	var made protocol.MintedCode
	if err := r.call(ctx, http.MethodPost, "/api/v1/stations/"+url.PathEscape(station)+"/code", body, &made); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.out, made.Code); err != nil {
		return err
	}
	until := made.Expires
	if at, err := protocol.ParseTime(until); err == nil {
		until = at.UTC().Format("2006-01-02 15:04 MST")
	}
	fmt.Fprintf(s.err, "for station %s, one use, until %s\n", made.Station, until)
	for _, note := range made.Notes {
		fmt.Fprintf(s.err, "note: %s\n", plain(note))
	}
	return nil
}

// StationRevokeCmd takes everything from a station.
type StationRevokeCmd struct {
	remote  `embed:""`
	Station string `arg:"" help:"The station."`
}

// Help begins with the example.
func (StationRevokeCmd) Help() string {
	return "Example:  heimdall-collector station revoke hb9-dl1abc\n\n" +
		"Its codes and certificates are refused from now on, its account is disabled, and its session ends. What it sent stays. `station code`\n" +
		"lets it in again."
}

// Run is called by the command line.
func (c StationRevokeCmd) Run(ctx context.Context, s streams) error {
	return c.end(ctx, s, http.MethodPost, c.Station, "/revoke", "revoked")
}

// StationRemoveCmd does the same, and leaves nothing of it at the broker.
type StationRemoveCmd struct {
	remote  `embed:""`
	Station string `arg:"" help:"The station."`
}

// Help begins with the example.
func (StationRemoveCmd) Help() string {
	return "Example:  heimdall-collector station remove hb9-dl1abc\n\n" +
		"Revokes the station, forgets its account, and empties all that the broker retains of it. What it sent stays."
}

// Run is called by the command line.
func (c StationRemoveCmd) Run(ctx context.Context, s streams) error {
	return c.end(ctx, s, http.MethodDelete, c.Station, "", "removed")
}

// end ends a station's membership.
func (r remote) end(ctx context.Context, s streams, method, station, path, done string) error {
	if err := protocol.ValidStation(station); err != nil {
		return usageError{fmt.Errorf("STATION: %w", err)}
	}
	if err := r.call(ctx, method, "/api/v1/stations/"+url.PathEscape(station)+path, nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s is %s\n", station, done)
	return err
}
