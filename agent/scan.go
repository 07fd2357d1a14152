package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fulgidus/heimdall/agent/discover"
)

// scan prints what receivers are there, as a configuration that can be used as it is.
func (c ProbeCmd) scan(ctx context.Context, s streams) error {
	fmt.Fprintln(s.err, "looking for receivers …")
	found := discover.Scan(ctx, discover.System{})
	if len(found) == 0 {
		return errors.New("no receiver was found: plug one in, or name its address with `heimdall-agent probe SOURCE`")
	}
	if c.JSON {
		out := json.NewEncoder(s.out)
		for _, f := range found {
			if err := out.Encode(f); err != nil {
				return err
			}
		}
		return nil
	}
	return printConfig(s.out, found)
}

func printConfig(w io.Writer, found []discover.Found) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# heimdall-agent run --config FILE with these lines in FILE surveys what was found here.\n")
	fmt.Fprintf(&b, "station:\n  id: %s\nreceivers:\n", stationID())
	for i, f := range found {
		fmt.Fprintf(&b, "  # %s\n", oneLine(f.What))
		if f.Mend != "" {
			fmt.Fprintf(&b, "  # %s\n", f.Mend)
		}
		fmt.Fprintf(&b, "  - id: r%d\n    source: %s\n", i, f.Source)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// stationID is this computer's name as a station's id.
func stationID() string {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	host, _, _ := strings.Cut(strings.ToLower(name), ".")
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, host)
	id = strings.TrimLeft(id[:min(len(id), 32)], "-")
	if len(id) < 2 {
		id = "station" + cmp.Or(id, "-1")
	}
	return id
}
