package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// ExportCmd takes data out.
type ExportCmd struct {
	Recordings   ExportRecordingsCmd `cmd:"" help:"Recordings of IQ, as SigMF."`
	Measurements ExportRecordsCmd    `cmd:"" help:"Level, noise floor, SNR and bandwidth of each dwell and capture."`
	Spectra      ExportRecordsCmd    `cmd:"" help:"Averaged power spectral densities."`
	Detections   ExportRecordsCmd    `cmd:"" help:"Emissions in time and frequency."`
	Health       ExportRecordsCmd    `cmd:"" help:"What agents say of themselves."`
	Gaps         ExportRecordsCmd    `cmd:"" help:"Records and samples that will never come, and why."`
}

// newExportCmd tells each command of records which it is for.
func newExportCmd() ExportCmd {
	return ExportCmd{
		Measurements: ExportRecordsCmd{kind: "measurements", band: true}, Spectra: ExportRecordsCmd{kind: "spectra", band: true},
		Detections: ExportRecordsCmd{kind: "detections", band: true}, Health: ExportRecordsCmd{kind: "health"}, Gaps: ExportRecordsCmd{kind: "gaps"},
	}
}

// Help begins with the example.
func (ExportCmd) Help() string {
	return "Example:  heimdall-collector export recordings --acquisition 019ab1c2-77aa-7bbb-8ccc-0123456789ab --out burst\n\n" +
		"Each command below has its own --help."
}

// ExportRecordingsCmd takes recordings out as SigMF.
type ExportRecordingsCmd struct {
	remote      `embed:""`
	selection   `embed:""`
	IDs         []string `arg:"" name:"id" optional:"" help:"Recordings, by id."`
	Acquisition string   `help:"The recordings of this acquisition, and a .sigmf-collection that groups them." placeholder:"ID"`
	Out         string   `help:"Folder for the files; this one otherwise. It is made." placeholder:"DIR"`
	Archives    bool     `help:"Make each recording one .sigmf archive in the folder, instead of .sigmf-data and .sigmf-meta."`
	Output      string   `short:"o" help:"Put all into one .sigmf archive; - is standard output." placeholder:"FILE"`
	JSON        bool     `name:"json" help:"One line of JSON for each recording that is in the folder."`
}

// Help begins with the example.
func (ExportRecordingsCmd) Help() string {
	return "Example:  heimdall-collector export recordings --station torino --from -2h --out burst\n\n" +
		"The same command again goes on where it was broken off: files that are there and whole are left alone, half a file gets " +
		"the rest. Every file's hash is checked. For one archive of a whole acquisition: --acquisition ID -o burst.sigmf"
}

// Run is called by the command line.
func (c ExportRecordingsCmd) Run(ctx context.Context, s streams) error {
	choice := recordingChoice{selection: c.selection, IDs: c.IDs, Acquisition: c.Acquisition}
	switch {
	case choice.none() && c.Acquisition == "" && len(c.IDs) == 0:
		return usageError{errors.New("say which recordings: their ids, --acquisition, or --station, --from, --to, --min, --max")}
	case c.Output != "" && (c.Out != "" || c.Archives || c.JSON):
		return usageError{errors.New("-o puts all into one archive; --out, --archives and --json are for a folder")}
	}
	progress := exportProgress{board: board{w: s.err}}
	var err error
	if c.Output != "" {
		err = c.toArchive(ctx, s, choice, &progress)
	} else {
		err = c.toFolder(ctx, s, choice, &progress)
	}
	progress.end(err)
	if ctx.Err() != nil && err != nil {
		return exportBrokenOffError{c.Output == "", ctx.Err()}
	}
	return err
}

// exportBrokenOffError is the end of an export that was not waited for.
type exportBrokenOffError struct {
	goesOn bool // in a folder, where what is there stays
	why    error
}

func (e exportBrokenOffError) Error() string {
	if e.goesOn {
		return "export broken off; the same command goes on where it stopped"
	}
	return "export broken off; the archive is not whole, and the same command begins it anew"
}

func (e exportBrokenOffError) Unwrap() error { return e.why }

// toFolder writes recordings into a folder. One that cannot be had does not keep the others.
func (c ExportRecordingsCmd) toFolder(ctx context.Context, s streams, choice recordingChoice, progress *exportProgress) error {
	f := exportFolder{remote: c.remote, dir: filepath.Clean(c.Out), progress: progress} // of nothing it is the folder one is in
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	saved, failed := false, false
	err := c.chosen(ctx, s.err, choice, func(list []protocol.Recording) error {
		for i := range list {
			e, err := f.save(ctx, &list[i], c.Archives)
			var bad *badFileError
			if gone(err) || errors.As(err, &bad) {
				failed = true
				progress.say("recording %s of %s: %v", list[i].ID, list[i].Station, err)
				continue
			}
			if err != nil {
				return err
			}
			saved = true
			if err := c.tell(s.out, progress, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if saved && c.Acquisition != "" && !c.Archives {
		if err := f.saveCollection(c.Acquisition); err != nil {
			return err
		}
	}
	switch {
	case failed:
		return errReported
	case !saved:
		progress.say("%s", choice.nothing())
	}
	return nil
}

// exported is a recording that is in the folder.
type exported struct {
	Recording string   `json:"recording"`
	Station   string   `json:"station"`
	Files     []string `json:"files"`
	Bytes     uint64   `json:"bytes"` // of samples
	New       bool     `json:"new"`   // not there before
}

func (c ExportRecordingsCmd) tell(w io.Writer, progress *exportProgress, e *exported) error {
	progress.clear()
	if c.JSON {
		return json.NewEncoder(w).Encode(e)
	}
	already := ""
	if !e.New {
		already = ", was there"
	}
	_, err := fmt.Fprintf(w, "%s (%s%s)\n", e.Files[0], configs.Bytes(e.Bytes), already)
	return err
}

// baseName is the name of a recording's files without extension. Ids come from the collector: none may lead elsewhere.
func baseName(rec *protocol.Recording) (string, error) {
	base := rec.Station + "_" + rec.ID
	good := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.@", r)
	}
	if strings.HasPrefix(base, ".") || rec.ID == "" || strings.ContainsFunc(base, func(r rune) bool { return !good(r) }) {
		return "", badFile("no file can be named after recording %q of station %q", rec.ID, rec.Station)
	}
	return base, nil
}

// badFileError is a file that is not what the collector says it is.
type badFileError struct{ message string }

func badFile(format string, values ...any) error {
	return &badFileError{fmt.Sprintf(format, values...)}
}

func (e *badFileError) Error() string { return e.message }

// exportProgress is what an export shows on a terminal: what is on its way, how much of it is here, and how fast it
// comes. Elsewhere it shows nothing: what is done is told on standard output.
type exportProgress struct {
	board   board
	name    string
	size    uint64
	arrived uint64 // of this file
	total   uint64 // in this process
	began   time.Time
	shown   time.Time
}

// start names the next file. Some of it may be here already.
func (p *exportProgress) start(name string, size, here uint64) {
	p.name, p.size, p.arrived = name, size, here
	if p.began.IsZero() {
		p.began = time.Now()
	}
}

// add counts bytes that came.
func (p *exportProgress) add(n int) {
	p.arrived += uint64(n)
	p.total += uint64(n)
	columns, rows, ok := terminalSize(p.board.w)
	if !ok || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	rate := float64(p.total) / max(time.Since(p.began).Seconds(), 1e-3)
	p.board.draw([]string{fmt.Sprintf("%s: %s of %s, %s/s", p.name, configs.Bytes(p.arrived), configs.Bytes(p.size), configs.Bytes(rate))}, columns, rows)
}

// clear takes the line away so that others can be written.
func (p *exportProgress) clear() {
	if columns, rows, ok := terminalSize(p.board.w); ok && p.board.drawn > 0 {
		p.board.draw(nil, columns, rows)
	}
}

// say writes a line beside what is shown.
func (p *exportProgress) say(format string, values ...any) {
	p.clear()
	fmt.Fprintf(p.board.w, format+"\n", values...)
}

// end leaves what is shown when something went wrong, which tells how far it came.
func (p *exportProgress) end(err error) {
	if err == nil {
		p.clear()
	}
}
