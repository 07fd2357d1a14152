package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// SpoolCmd looks into the spool, beside a running agent or without one.
type SpoolCmd struct {
	Stat   SpoolStatCmd   `cmd:"" help:"How much waits, and for how long the room lasts."`
	List   SpoolListCmd   `cmd:"" help:"One line a record."`
	Verify SpoolVerifyCmd `cmd:"" help:"Check every record against its checksum; ends with 1 when one is damaged."`
	Export SpoolExportCmd `cmd:"" help:"Whole records as JSON lines."`
}

// Help begins with the example.
func (SpoolCmd) Help() string {
	return "Example:  heimdall-agent spool stat\n\n" +
		"Asks the running agent, or opens the file itself where none runs. Nothing is changed."
}

// spoolReport is what `spool stat` says.
type spoolReport struct {
	Station        string               `json:"station"`
	Spool          string               `json:"spool"`
	Records        int64                `json:"records"`
	Bytes          int64                `json:"bytes"`
	KeptRecords    int64                `json:"kept_records"`
	KeptBytes      int64                `json:"kept_bytes"`
	LimitBytes     int64                `json:"limit_bytes"`
	LastSeq        uint64               `json:"last_seq"`
	Oldest         *protocol.Timestamp  `json:"oldest,omitempty"`
	BytesPerSecond float64              `json:"bytes_per_second,omitempty"`
	HoldsS         float64              `json:"holds_s,omitempty"` // how long an outage may last at this rate
	Lanes          map[string]laneCount `json:"lanes"`
	Disk           diskStatus           `json:"disk"`
}

type laneCount struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

func newSpoolReport(cfg Config, limit int64, st spool.Stats) spoolReport {
	r := spoolReport{
		Station: cfg.Station.ID, Spool: fmt.Sprintf("%x", st.Identity), Records: st.Records, Bytes: st.Bytes, KeptRecords: st.Kept,
		KeptBytes: st.KeptBytes, LimitBytes: limit, LastSeq: st.LastSeq, Lanes: map[string]laneCount{},
		Disk: newDiskStatus(cfg.Spool.Path, st),
	}
	for lane, l := range st.Lanes {
		r.Lanes[string(lane)] = laneCount(l)
	}
	if !st.Oldest.IsZero() {
		r.Oldest = &protocol.Timestamp{Time: st.Oldest}
	}
	if span := st.To.Sub(st.From).Seconds(); span >= leastSpanS {
		r.BytesPerSecond = round(float64(st.Bytes+st.KeptBytes)/span, 10)
		r.HoldsS = round(float64(max(limit-st.Bytes, 0))/max(r.BytesPerSecond, 1), 1)
	}
	return r
}

// leastSpanS is from what stretch of records on they tell how fast they come.
const leastSpanS = 60

func (r spoolReport) print(w io.Writer) error {
	waits := "nothing waits"
	if r.Records > 0 {
		waits = fmt.Sprintf("%d records wait (%s of %s)", r.Records, configs.Bytes(r.Bytes), configs.Bytes(r.LimitBytes))
	}
	if r.Oldest != nil {
		waits += ", the oldest of " + r.Oldest.Format(time.DateTime) + " UTC"
	}
	fmt.Fprintf(w, "%s spool %s: %s%s\n", r.Station, r.Spool, waits, r.Disk.free(r.LimitBytes))
	fmt.Fprintf(w, "%d acknowledged records are kept (%s); the last number is %d\n", r.KeptRecords, configs.Bytes(r.KeptBytes), r.LastSeq)
	if r.HoldsS > 0 {
		fmt.Fprintf(w, "spool holds %s at this rate, of up to %s\n", people(time.Duration(r.HoldsS)*time.Second), configs.Bytes(r.LimitBytes))
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "lane\trecords\tbytes\n")
	for _, lane := range spool.Lanes() {
		if l := r.Lanes[string(lane)]; l.Records > 0 {
			fmt.Fprintf(table, "%s\t%d\t%s\n", lane, l.Records, configs.Bytes(l.Bytes))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, warning := range r.Disk.warnings(r.LimitBytes) {
		if _, err := fmt.Fprintln(w, "warning:", warning); err != nil {
			return err
		}
	}
	return nil
}

// people says a stretch of time as one thinks of it.
func people(d time.Duration) string {
	if d >= 2*day {
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	}
	if d >= 2*time.Hour {
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f minutes", d.Minutes())
}

// spoolLine is one record as `spool list` and `spool verify` see it, and as the agent sends it over its socket.
type spoolLine struct {
	Lane   string              `json:"lane"`
	Spool  string              `json:"spool"`
	Seq    uint64              `json:"seq"`
	State  string              `json:"state"` // unacked or kept
	Kind   string              `json:"kind,omitempty"`
	Time   *protocol.Timestamp `json:"time,omitempty"`
	Bytes  int64               `json:"bytes"`
	Error  string              `json:"error,omitempty"`
	Record []byte              `json:"record,omitempty"` // sealed with its identity, when it was asked for
}

func newSpoolLine(e spool.Entry, whole bool) spoolLine {
	l := spoolLine{Lane: string(e.Lane), Spool: fmt.Sprintf("%x", e.Spool), Seq: e.Seq, State: "unacked", Bytes: e.Bytes}
	if e.Kept {
		l.State = "kept"
	}
	if e.Err != nil {
		l.Error = e.Err.Error()
		return l
	}
	l.Kind, l.Time = string(e.Kind), &protocol.Timestamp{Time: e.Time}
	if whole {
		l.Record = protocol.Seal(e.Payload, e.Spool, e.Seq)
	}
	return l
}

// spoolRecords asks for all records of a lane, or of all with an empty one: the running agent, or the file where none runs.
func spoolRecords(ctx context.Context, cfg Config, lane string, whole bool, visit func(spoolLine) error) error {
	var lanes []spool.Lane
	if lane != "" {
		if !slices.Contains(spool.Lanes(), spool.Lane(lane)) {
			return usageError{fmt.Errorf("--lane %s: want one of %s", lane, strings.Trim(fmt.Sprint(spool.Lanes()), "[]"))}
		}
		lanes = append(lanes, spool.Lane(lane))
	}
	query := url.Values{"lane": {lane}, "whole": {strconv.FormatBool(whole)}}
	body, err := askAgent(ctx, cfg.Spool.Path, "/spool/records?"+query.Encode())
	if errors.Is(err, errNotRunning) {
		return spool.Entries(cfg.Spool.Path, func(e spool.Entry) error { return visit(newSpoolLine(e, whole)) }, lanes...)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	for decoder := json.NewDecoder(body); ; {
		var l spoolLine
		if err := decoder.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the agent stopped before it had sent all records: ask again")
			}
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if l.Lane == "" { // the last line says that it was all, or why not
			if l.Error != "" {
				return errors.New(l.Error)
			}
			return nil
		}
		if err := visit(l); err != nil {
			return err
		}
	}
}

// SpoolStatCmd tells how much is in the spool.
type SpoolStatCmd struct {
	configFlag `embed:""`
	JSON       bool `name:"json" help:"Print JSON."`
}

// Help begins with the example.
func (SpoolStatCmd) Help() string { return "Example:  heimdall-agent spool stat --json" }

// Run is called by the command line.
func (c SpoolStatCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	report, err := askSpool(ctx, cfg)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.out).Encode(report)
	}
	return report.print(s.out)
}

func askSpool(ctx context.Context, cfg Config) (report spoolReport, err error) {
	body, err := askAgent(ctx, cfg.Spool.Path, "/spool/stat")
	if errors.Is(err, errNotRunning) {
		st, err := spool.Stat(cfg.Spool.Path)
		if errors.Is(err, os.ErrNotExist) {
			return report, fmt.Errorf("nothing was stored yet in %s: `heimdall-agent run` makes the spool", cfg.Spool.Path)
		}
		if err != nil {
			return report, err
		}
		limit, err := spoolLimit(cfg.Spool)
		return newSpoolReport(cfg, limit, st), err
	}
	if err != nil {
		return report, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&report); err != nil {
		return report, fmt.Errorf("read the agent's answer: %w", err)
	}
	return report, nil
}

// exampleLine is one of spool list --json.
const exampleLine = `{"lane":"detection","spool":"9f1c02aa5be07731","seq":4711,"state":"unacked","kind":"detection","time":"2026-11-24T01:25:32.500000000Z","bytes":187}`

// SpoolListCmd lists records.
type SpoolListCmd struct {
	configFlag `embed:""`
	Lane       string `help:"Only this lane." placeholder:"LANE"`
	Limit      int    `help:"At most so many; 0: all." default:"0"`
	JSON       bool   `name:"json" help:"JSON lines."`
}

// Help begins with the example.
func (SpoolListCmd) Help() string {
	return "Example:  heimdall-agent spool list --lane detection --limit 20\n\nLanes: " + strings.Trim(fmt.Sprint(spool.Lanes()), "[]") + ".\n\n" +
		"A line with --json, which has `error` instead of kind and time where the record is damaged:\n\n    " + exampleLine
}

var errEnough = errors.New("enough")

// Run is called by the command line.
func (c SpoolListCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	n := 0
	err = spoolRecords(ctx, cfg, c.Lane, false, func(l spoolLine) error {
		if n++; c.Limit > 0 && n > c.Limit {
			return errEnough
		}
		if c.JSON {
			return json.NewEncoder(s.out).Encode(l)
		}
		_, err := fmt.Fprintln(s.out, l)
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// String is the line for people.
func (l spoolLine) String() string {
	if l.Error != "" {
		return fmt.Sprintf("%-12s %s %10d  %s", l.Lane, l.Spool, l.Seq, l.Error)
	}
	return fmt.Sprintf("%-12s %s %10d  %s  %-12s %8d B  %s", l.Lane, l.Spool, l.Seq, l.Time.Format("2006-01-02T15:04:05.000Z"), l.Kind, l.Bytes, l.State)
}

// SpoolVerifyCmd reads every record.
type SpoolVerifyCmd struct {
	configFlag `embed:""`
	JSON       bool `name:"json" help:"Print JSON."`
}

// Help begins with the example.
func (SpoolVerifyCmd) Help() string { return "Example:  heimdall-agent spool verify" }

// Run is called by the command line.
func (c SpoolVerifyCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	records, damaged := 0, 0
	err = spoolRecords(ctx, cfg, "", false, func(l spoolLine) error {
		if records++; l.Error == "" {
			return nil
		}
		damaged++
		if c.JSON {
			return json.NewEncoder(s.out).Encode(l)
		}
		_, err := fmt.Fprintln(s.out, l)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(map[string]int{"records": records, "damaged": damaged})
	} else {
		_, err = fmt.Fprintf(s.out, "%d records, %d damaged\n", records, damaged)
	}
	if err == nil && damaged > 0 {
		return fmt.Errorf("%d records are damaged: each is declared lost when its turn comes; look after the disk under %s", damaged, cfg.Spool.Path)
	}
	return err
}

// SpoolExportCmd prints whole records.
type SpoolExportCmd struct {
	configFlag `embed:""`
	Lane       string `help:"Only this lane." placeholder:"LANE"`
	JSON       bool   `name:"json" help:"JSON lines, which is the only form."`
}

// Help begins with the example.
func (SpoolExportCmd) Help() string { return "Example:  heimdall-agent spool export > records.jsonl" }

// Run is called by the command line.
func (c SpoolExportCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(io.Discard)
	if err != nil {
		return err
	}
	damaged := 0
	err = spoolRecords(ctx, cfg, c.Lane, true, func(l spoolLine) error {
		line, err := exported(l)
		if err != nil {
			damaged++
			fmt.Fprintf(s.err, "record %d of spool %s: %v\n", l.Seq, l.Spool, err)
			return nil
		}
		_, err = s.out.Write(append(line, '\n'))
		return err
	})
	if err == nil && damaged > 0 {
		return fmt.Errorf("%d records are damaged and left out", damaged)
	}
	return err
}

// exported is a record in the JSON form of the protocol, with its lane and whether it is acknowledged.
func exported(l spoolLine) ([]byte, error) {
	if l.Error != "" {
		return nil, errors.New(l.Error)
	}
	record, err := protocol.Decode(l.Record)
	if err != nil {
		return nil, err
	}
	line, err := protocol.MarshalJSON(record)
	if err != nil {
		return nil, err
	}
	return protocol.AppendMembers(bytes.TrimSpace(line), protocol.Member{Name: "lane", Value: l.Lane}, protocol.Member{Name: "state", Value: l.State})
}
