package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

// VerifyCmd proves the delivery.
type VerifyCmd struct {
	configFlag `embed:""`
	Station    string `help:"Only this station." placeholder:"S"`
	Final      bool   `help:"Count what agents still hold as missing."`
	JSON       bool   `name:"json" help:"JSON lines."`
}

// Help begins with the example.
func (VerifyCmd) Help() string {
	return "Example:  heimdall-collector verify --station torino\n\nFor each station and spool, every number from 1 to the highest known must be stored once, released by retention, declared lost, rejected, or still held by the agent. Ends with 1 if any is missing or there twice."
}

// Run is called by the command line.
func (c VerifyCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	return c.account().do(func() error { return c.run(ctx, s, cfg) })
}

func (c VerifyCmd) run(ctx context.Context, s streams, cfg Config) error {
	db, err := openUsed(ctx, cfg, "verify")
	if err != nil {
		return err
	}
	defer db.Close()
	verdicts, err := db.Verify(ctx, c.Station, c.Final)
	if err != nil {
		return err
	}
	if c.Station != "" && len(verdicts) == 0 { // nothing proves nothing
		return fmt.Errorf("--station %q: nothing from it is stored here", c.Station)
	}
	if err := c.print(s.out, verdicts); err != nil {
		return err
	}
	for _, v := range verdicts {
		if !v.OK() {
			fmt.Fprintln(s.err, fault(v))
			err = errReported
		}
	}
	return err
}

// fault says what is wrong with a spool, and what can be done where something can.
func fault(v store.Verdict) string {
	var wrong []string
	if v.Missing > 0 {
		wrong = append(wrong, "missing "+spans(v.MissingRanges))
	}
	if v.Duplicate > 0 {
		wrong = append(wrong, "there twice "+spans(v.DuplicateRanges))
	}
	line := fmt.Sprintf("%s %x: %s", v.Station, v.Spool, strings.Join(wrong, ", "))
	if v.Owed > 0 {
		line += fmt.Sprintf("; if its disk is gone for good, `heimdall-collector station retire-spool %s %x` declares what it owes", v.Station, v.Spool)
	}
	return line
}

// mostSpans is how many a line of text shows.
const mostSpans = 20

// spans are numbers as people write them: 1-401, 405.
func spans(numbers protocol.Ranges) string {
	list := make([]string, 0, mostSpans+1)
	for _, r := range numbers.Head(mostSpans) {
		if r.From == r.To {
			list = append(list, fmt.Sprint(r.From))
		} else {
			list = append(list, fmt.Sprintf("%d-%d", r.From, r.To))
		}
	}
	if more := len(numbers) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d ranges more", more))
	}
	return strings.Join(list, ", ")
}

// pairs are numbers as JSON has them everywhere: [from,to], both ends included.
func pairs(numbers protocol.Ranges) [][2]uint64 {
	list := make([][2]uint64, len(numbers))
	for i, r := range numbers {
		list[i] = [2]uint64{r.From, r.To}
	}
	return list
}

// openUsed opens the database of a collector that has run, for a command.
func openUsed(ctx context.Context, cfg Config, command string) (*store.DB, error) {
	unused := fmt.Errorf("%s: %s: no collector has used this database yet; --config names the configuration of the one that has", command, redact(string(cfg.Store.URL)))
	db, err := store.OpenExisting(ctx, string(cfg.Store.URL), quiet())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unused
	}
	if err != nil {
		return nil, err
	}
	d, err := db.Describe(ctx)
	switch {
	case err != nil:
		err = unreachable(err, "store.url")
	case d.Migration == 0:
		err = unused
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (c VerifyCmd) print(w io.Writer, verdicts []store.Verdict) error {
	if c.JSON {
		encoder := json.NewEncoder(w)
		for _, v := range verdicts {
			line := struct {
				store.Verdict
				Spool           string      `json:"spool"`
				MissingRanges   [][2]uint64 `json:"missing_ranges,omitempty"`
				DuplicateRanges [][2]uint64 `json:"duplicate_ranges,omitempty"`
			}{Verdict: v, Spool: fmt.Sprintf("%x", v.Spool), MissingRanges: pairs(v.MissingRanges), DuplicateRanges: pairs(v.DuplicateRanges)}
			if err := encoder.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "station\tspool\tfirst\tlast\tstored\treleased\tgaps\trejected\tpending\tmissing\tduplicate\t")
	for _, v := range verdicts {
		fmt.Fprintf(t, "%s\t%x\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", v.Station, v.Spool, v.First, v.Last, v.Stored, v.Released, v.Gaps, v.Rejected, v.Pending, v.Missing, v.Duplicate)
	}
	return t.Flush()
}
