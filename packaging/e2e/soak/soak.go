// Package soak runs stations, two collectors and their servers as real processes, does to them for a while what a seed
// decides, then lets them come to rest and has the run judged by package invariant.
//
// Every actor (an agent, a collector, a server, a link) draws what happens to it from its own sequence, which the seed and
// its name decide: the same seed gives each of them the same faults in the same order. At which instruction they hit is up
// to the computer, so a seed that failed is tried a few times.
package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/packaging/e2e/invariant"
)

// Groups are the faults that can be chosen.
func Groups() []string {
	return []string{
		"kills", "pauses", "failpoints", "broker", "database", "objects", "link", "clock", "damage", "clone", "full", "poison", "captures",
	}
}

// Options say how long and what.
type Options struct {
	For    time.Duration // of faults; coming to rest takes up to two minutes more
	Seed   uint64
	Faults []string // groups; none: all
	Module string   // root of the source tree, where the programs are built and their failpoints found
	Dir    string   // for everything that the run leaves; empty: a temporary one, removed when all went well
	Out    io.Writer
}

func (o Options) has(group string) bool { return slices.Contains(o.Faults, group) }

func (o *Options) check() error {
	for _, f := range o.Faults {
		if !slices.Contains(Groups(), f) {
			return fmt.Errorf("faults: %q: want some of %s", f, strings.Join(Groups(), ","))
		}
	}
	if o.For < time.Second {
		return fmt.Errorf("duration: %v: want at least 1s", o.For)
	}
	return nil
}

// Summary is what a run was, for people and as one line of JSON.
type Summary struct {
	Seed     uint64                      `json:"seed"`
	For      string                      `json:"for"`
	Seconds  float64                     `json:"seconds"`
	Faults   []string                    `json:"faults"`
	Counts   map[string]int              `json:"counts"` // how often each happened
	Stations map[string]*invariant.Tally `json:"stations"`
	Records  int                         `json:"records"` // given by all stations
	Rows     int                         `json:"rows"`
	Findings []string                    `json:"findings"` // broken promises; none when all went well
	Dir      string                      `json:"dir,omitempty"`
	Again    string                      `json:"again"` // the command that repeats it
}

// Run torments a world for a while. The error is for what kept the run from being one; broken promises are findings.
func Run(ctx context.Context, o Options) (*Summary, error) {
	if len(o.Faults) == 0 {
		o.Faults = Groups()
	}
	again := fmt.Sprintf("make soak SOAK=%s SEED=%d SOAK_FAULTS=%s", o.For, o.Seed, strings.Join(o.Faults, ","))
	return run(ctx, o, again, (*world).torment)
}

// run gives a world something to endure, lets it come to rest, and has it judged.
func run(ctx context.Context, o Options, again string, endure func(*world, context.Context) error) (*Summary, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	own := o.Dir == ""
	if own {
		dir, err := os.MkdirTemp("", "heimdall-soak-")
		if err != nil {
			return nil, fmt.Errorf("make a directory: %w", err)
		}
		o.Dir = dir
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	journal, err := os.Create(filepath.Join(o.Dir, "journal.log"))
	if err != nil {
		return nil, fmt.Errorf("make the journal: %w", err)
	}
	defer journal.Close()
	w := &world{options: o, dir: o.Dir, log: slog.New(slog.NewTextHandler(journal, &slog.HandlerOptions{Level: slog.LevelDebug})), counts: map[string]int{}}
	summary, err := w.run(ctx, endure)
	if err != nil {
		return summary, fmt.Errorf("soak in %s: %w", o.Dir, err)
	}
	summary.Dir, summary.Again = o.Dir, again
	if own && len(summary.Findings) == 0 {
		summary.Dir = ""
		return summary, os.RemoveAll(o.Dir)
	}
	return summary, nil
}

func (w *world) run(ctx context.Context, endure func(*world, context.Context) error) (*Summary, error) {
	began := time.Now()
	if err := w.open(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.log.InfoContext(ctx, "the faults begin")
	err := endure(w, ctx)
	w.log.InfoContext(ctx, "the faults have ended", "error", err)
	if err == nil {
		err = w.rest(ctx)
		w.log.InfoContext(ctx, "all is at rest", "error", err)
	}
	var report *invariant.Report
	var judged invariant.World
	if err == nil {
		judged, err = w.known(ctx)
	}
	if err == nil {
		report = invariant.Judge(judged)
		w.verify(ctx)
		w.checkRecordings(ctx)
	}
	err = errors.Join(err, w.close())
	if err != nil {
		return nil, err
	}
	w.checkLogs()
	s := &Summary{
		Seed: w.options.Seed, For: w.options.For.String(), Seconds: time.Since(began).Seconds(), Faults: w.options.Faults, Counts: w.counts,
		Stations: report.Stations, Rows: len(judged.Rows), Findings: w.violations,
	}
	for _, f := range report.Findings {
		s.Findings = append(s.Findings, f.String())
	}
	for _, t := range s.Stations {
		s.Records += t.Given
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "summary.json"), text, 0o600)
	}
	return s, err
}

// mostShown is how many findings of a kind a person is shown.
const mostShown = 5

// Print shows a summary to a person.
func (s *Summary) Print(out io.Writer) {
	fmt.Fprintf(out, "seed %d, %.0f s, faults %s\n", s.Seed, s.Seconds, strings.Join(s.Faults, ","))
	fmt.Fprintf(out, "%d records given, %d rows in the database\n", s.Records, s.Rows)
	names := make([]string, 0, len(s.Counts))
	for name := range s.Counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "  %-28s %6d\n", name, s.Counts[name])
	}
	fmt.Fprintf(out, "  %-10s %8s %8s %8s %6s %8s %8s %6s %6s  %s\n", "station", "given", "stored", "unknown", "held", "rejected", "own gaps", "moved", "twice", "declared lost")
	stations := make([]string, 0, len(s.Stations))
	for id := range s.Stations {
		stations = append(stations, id)
	}
	slices.Sort(stations)
	for _, id := range stations {
		t := s.Stations[id]
		fmt.Fprintf(out, "  %-10s %8d %8d %8d %6d %8d %8d %6d %6d  %s", id, t.Given, t.Stored, t.Unknown, t.Held, t.Rejected, t.OwnGaps, t.Moved, t.Doubled, declared(t))
		if len(t.Saved) > 0 {
			saved := slices.Sorted(slices.Values(t.Saved))
			fmt.Fprintf(out, "; %d damages, saved: least %.3f, median %.3f", len(saved), saved[0], saved[len(saved)/2])
		}
		fmt.Fprintln(out)
	}
	shown := map[string]int{}
	for _, f := range s.Findings {
		kind, _, _ := strings.Cut(f, ":")
		if shown[kind]++; shown[kind] <= mostShown {
			fmt.Fprintln(out, "BROKEN", f)
		}
	}
	for kind, n := range shown {
		if n > mostShown {
			fmt.Fprintf(out, "BROKEN %s: %d more, see summary.json\n", kind, n-mostShown)
		}
	}
	if len(s.Findings) == 0 {
		fmt.Fprintln(out, "every promise was kept")
		return
	}
	fmt.Fprintf(out, "%d promises broken; everything is in %s\nto try again:  %s\n", len(s.Findings), s.Dir, s.Again)
}

func declared(t *invariant.Tally) string {
	if len(t.Declared) == 0 && t.Shadowed == 0 {
		return "-"
	}
	var words []string
	for reason, n := range t.Declared {
		words = append(words, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(words)
	if t.Shadowed > 0 {
		words = append(words, fmt.Sprintf("%d shadowed", t.Shadowed))
	}
	return strings.Join(words, ", ")
}
