package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// MeasureCmd analyses recordings offline.
type MeasureCmd struct {
	Files    []string       `arg:"" name:"file" help:"Recordings: SigMF, WAV, KiwiSDR WAV, .cu8 .cs8 .cs16 .cf32, names such as g001_433.92M_250k.cu8; - is standard input, raw, with --format and --rate."`
	Format   string         `help:"Sample format when the file does not say: cu8, cs8, cs16 or cf32."`
	Rate     *configs.Hertz `placeholder:"HZ" help:"Sample rate when the file does not say, such as 250k."`
	Center   configs.Hertz  `placeholder:"HZ" help:"Centre frequency when the file does not say, such as 433.92M."`
	FFT      *int           `name:"fft" placeholder:"N" help:"Bins of the spectrum, a power of two (4096; fewer for a short recording)."`
	DC       string         `name:"dc" placeholder:"mask|keep" help:"Whether what stands at 0 Hz is the receiver's own spike (mask) or an emission (keep). Raw recordings mask it, SigMF and timed WAV keep it."`
	Spectrum bool           `help:"Print the averaged spectrum too."`
	JSON     bool           `name:"json" help:"JSON lines, with the fields of the wire."`
}

// Frames that a short recording should give to its spectrum at least.
const leastFrames = 8

// Help is shown below the usage.
func (MeasureCmd) Help() string {
	return "Example:  heimdall-agent measure --json g001_433.92M_250k.cu8\n\n" +
		"Prints one measurement, one detection for each emission and, with --spectrum, one spectrum a recording."
}

// Run is called by the command line.
func (c MeasureCmd) Run(ctx context.Context, s streams) error {
	opts, err := c.options()
	if err != nil {
		return usageError{err}
	}
	failed := false
	for _, path := range c.Files {
		err := c.file(ctx, path, opts, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = true
			if _, err := fmt.Fprintln(s.err, explain(err)); err != nil {
				return err
			}
		}
	}
	if failed {
		return errReported
	}
	return nil
}

// explain puts each fault of a recording on a line of its own.
func explain(err error) string {
	faults := radio.Faults(err)
	if len(faults) == 0 {
		return err.Error()
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (c MeasureCmd) options() (radio.Options, error) {
	opts := radio.Options{CenterHz: float64(c.Center)}
	if c.Rate != nil {
		if opts.RateHz = float64(*c.Rate); opts.RateHz <= 0 {
			return opts, fmt.Errorf("--rate %s: want a sample rate above 0, such as 250k", *c.Rate)
		}
	}
	if _, err := radio.Open(radio.FileSource("-"), opts); err != nil {
		f := radio.Faults(err)[0]
		return opts, fmt.Errorf("--%s %s: %s", f.Field, f.Value, f.Mend)
	}
	if c.DC != "" && c.DC != "mask" && c.DC != "keep" {
		return opts, fmt.Errorf("--dc %s: want mask or keep", c.DC)
	}
	if c.Format != "" {
		f, err := dsp.ParseFormat(c.Format)
		if err != nil {
			return opts, fmt.Errorf("--format: %w", err)
		}
		opts.Format = f
	}
	if c.FFT != nil {
		if *c.FFT == 0 { // which is the default in a survey's configuration
			return opts, errors.New("--fft 0: want a power of two from 64 to 65536")
		}
		if _, err := survey.NewAnalyzer(survey.Config{FFT: *c.FFT}); err != nil {
			return opts, fmt.Errorf("--%w", err)
		}
	}
	return opts, nil
}

// file measures one recording, in constant memory.
func (c MeasureCmd) file(ctx context.Context, path string, opts radio.Options, s streams) (err error) {
	source := radio.FileSource(path)
	if path == "-" {
		if c.Format == "" || c.Rate == nil {
			return errors.New("-: standard input does not say what it is: give --format and --rate")
		}
		source = "stdin:?pace=fast&dc=mask" // as a raw recording
	}
	receiver, err := radio.Open(source, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, receiver.Close()) }()
	info, err := receiver.Open(ctx)
	if err != nil {
		return err
	}
	for _, note := range info.Notes {
		if _, err := fmt.Fprintf(s.err, "%s: %s\n", path, note); err != nil {
			return err
		}
	}
	analyzer, err := survey.NewAnalyzer(c.analysis(info))
	if err != nil {
		return err
	}
	w := &measureWriter{out: s.out, path: path, info: info, json: c.JSON, spectrum: c.Spectrum}
	if err := w.begin(); err != nil {
		return err
	}
	progress := &progressLine{w: s.err}
	samples, readErr := c.read(ctx, receiver, analyzer, w, progress)
	progress.end()
	if err := w.write(analyzer.Flush()); err != nil {
		return err
	}
	switch {
	case readErr != nil:
		return fmt.Errorf("read %s: %w", path, readErr)
	case samples == 0:
		return fmt.Errorf("%s: no whole sample of format %s in it", path, info.Format)
	}
	return nil
}

// analysis fits the analyzer to a recording: fewer bins for a short one, one measurement for all of it.
func (c MeasureCmd) analysis(info radio.Info) survey.Config {
	cfg := survey.Config{FFT: defaultFFT, MaskDC: info.MaskDC, Detect: survey.Detect{ReportEvery: -1}}
	if c.FFT != nil {
		cfg.FFT = *c.FFT
	} else {
		for cfg.FFT > 64 && info.Samples > 0 && uint64(cfg.FFT)*leastFrames/2 > info.Samples {
			cfg.FFT /= 2
		}
	}
	if c.DC != "" {
		cfg.MaskDC = c.DC == "mask"
	}
	if c.Spectrum {
		cfg.SpectrumEvery = -1
	}
	return cfg
}

// read passes the recording through the analyzer and counts its samples.
func (c MeasureCmd) read(ctx context.Context, r radio.Receiver, a *survey.Analyzer, w *measureWriter, p *progressLine) (uint64, error) {
	var block radio.Block
	samples := uint64(0)
	for {
		err := r.Read(ctx, &block)
		if errors.Is(err, io.EOF) && len(radio.Faults(err)) == 0 {
			return samples, nil
		}
		if err != nil {
			return samples, err
		}
		if err := w.write(a.Write(&block)); err != nil {
			return samples, err
		}
		samples += uint64(block.Samples())
		if total := w.info.Samples; total > 0 {
			p.show(progressBar(w.path, float64(samples)/float64(total)))
		}
	}
}

// progressBar changes at most fifty times.
func progressBar(path string, done float64) string {
	const width = 50
	n := min(width, int(done*width))
	return fmt.Sprintf("%s [%s%s] %d %%", path, strings.Repeat("=", n), strings.Repeat(" ", width-n), n*100/width)
}

// measureWriter prints the records of one recording: JSON lines for machines, a table for people.
type measureWriter struct {
	out        io.Writer
	path       string
	info       radio.Info
	json       bool
	spectrum   bool
	detections int
}

func (w *measureWriter) begin() error {
	if w.json {
		return nil
	}
	t, center := w.info.Tuning, "unknown"
	if w.absolute() {
		center = configs.Hertz(t.CenterHz).String()
	}
	length := "of unknown length"
	if w.info.Samples > 0 {
		length = seconds(float64(w.info.Samples) / t.SampleRateHz)
	}
	_, err := fmt.Fprintf(w.out, "%s: %s, centre %s, rate %s, %s\n", w.path, w.info.Format, center, configs.Hertz(math.Round(t.SampleRateHz)), length)
	return err
}

// absolute tells whether the centre is known, so that frequencies are no offsets.
func (w *measureWriter) absolute() bool { return w.info.Tuning.CenterHz > 0 }

func (w *measureWriter) write(emissions []survey.Emission) error {
	for _, e := range emissions {
		var err error
		if w.json {
			err = w.line(e)
		} else {
			err = w.row(e)
		}
		if err != nil {
			return fmt.Errorf("print what %s holds: %w", w.path, err)
		}
	}
	return nil
}

// line prints one flat JSON object.
func (w *measureWriter) line(e survey.Emission) error {
	extra := []protocol.Member{{Name: "file", Value: w.path}}
	if e.Record.GetTimeQuality() == protocol.TimeQuality_TIME_QUALITY_UNSET {
		e.Record.Time, e.Record.TimeUncertaintyS = nil, nil // the recording carries none
	}
	switch {
	case e.Record.GetDetection() != nil:
		extra = append(extra, protocol.Member{Name: "start_s", Value: e.StartS})
	case e.Record.GetMeasurement() != nil && !w.info.FirstStamp.IsZero() && e.StartS == 0:
		e.Record.Time = proto.Int64(w.info.FirstStamp.UnixNano())
	}
	b, err := protocol.FlatJSON(e.Record, extra...)
	if err != nil {
		return err
	}
	_, err = w.out.Write(append(b, '\n'))
	return err
}

// row prints for people: detections as they end, the measurement at last.
func (w *measureWriter) row(e survey.Emission) error {
	switch body := e.Record.Body.(type) {
	case *protocol.Record_Detection:
		return w.detectionRow(e.StartS, body.Detection)
	case *protocol.Record_Measurement:
		return w.measurementRows(e.Record, body.Measurement)
	case *protocol.Record_Spectrum:
		return w.spectrumRows(body.Spectrum)
	}
	return nil
}

func (w *measureWriter) detectionRow(startS float64, d *protocol.Detection) error {
	if w.detections == 0 {
		if _, err := fmt.Fprintf(w.out, "  %12s %12s %16s %12s %10s %8s\n", "start", "length", "centre", "bandwidth", "level", "SNR"); err != nil {
			return err
		}
	}
	w.detections++
	_, err := fmt.Fprintf(w.out, "  %12s %12s %16s %12s %10s %8s%s\n", fmt.Sprintf("%.4f s", startS), seconds(d.GetDurationS()),
		hertz(d.GetCenterHz(), w.absolute()), bandwidth(d.GetBandwidthHz()), fmt.Sprintf("%.1f dBFS", d.GetPowerDbfs()),
		optional(d.SnrDb, "%.1f dB"), flagNames(d.Flags))
	return err
}

func (w *measureWriter) measurementRows(r *protocol.Record, m *protocol.Measurement) error {
	known := w.absolute()
	var b strings.Builder
	if first := w.info.FirstStamp; !first.IsZero() {
		fmt.Fprintf(&b, "  first good time stamp %s (%s)\n", first.UTC().Format(time.RFC3339Nano), r.GetTimeQuality().Short())
	} else if r.Time != nil && r.GetTimeQuality() != protocol.TimeQuality_TIME_QUALITY_UNSET {
		fmt.Fprintf(&b, "  recorded %s (%s)\n", time.Unix(0, r.GetTime()).UTC().Format(time.RFC3339Nano), r.GetTimeQuality().Short())
	}
	fmt.Fprintf(&b, "  %d samples in %s at %.5f Hz, %d lost\n", m.GetSamples(), seconds(m.GetDurationS()), m.GetSampleRateHz(), m.GetLostSamples())
	fmt.Fprintf(&b, "  level %s, noise floor %s, DC %.5f %.5f, clipped %.2f %%%s\n", optional(m.PowerDbfs, "%.2f dBFS"),
		optional(m.NoiseFloorDbfsHz, "%.2f dBFS/Hz"), m.GetDcI(), m.GetDcQ(), 100*m.GetClippedFraction(), flagNames(m.Flags))
	if m.PeakHz != nil {
		fmt.Fprintf(&b, "  strongest: %s, %s, SNR %s, %s wide\n", hertz(m.GetPeakHz(), known), optional(m.PeakDbfs, "%.2f dBFS"),
			optional(m.SnrDb, "%.1f dB"), bandwidth(m.GetOccupiedBandwidthHz()))
	} else {
		b.WriteString("  nothing rises above the floor\n")
	}
	if w.detections == 0 {
		b.WriteString("  no detections\n")
	}
	_, err := io.WriteString(w.out, b.String())
	return err
}

// spectrumRows prints a line a bin, for plotting.
func (w *measureWriter) spectrumRows(s *protocol.Spectrum) error {
	levels, err := s.LevelsDBFSHz()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w.out, "  spectrum, %d averages: Hz, dBFS/Hz\n", s.GetAverages()); err != nil {
		return err
	}
	for i, v := range levels {
		if _, err := fmt.Fprintf(w.out, "%.1f\t%.1f\n", s.GetStartHz()+float64(i)*s.GetStepHz(), v); err != nil {
			return err
		}
	}
	return nil
}

func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.2f ms", s*1e3)
	}
	return fmt.Sprintf("%.3f s", s)
}

// hertz prints a frequency: absolute where the centre is known, else an offset with its sign.
func hertz(hz float64, absolute bool) string {
	switch {
	case absolute && hz < 1e6:
		return fmt.Sprintf("%.3f kHz", hz/1e3)
	case absolute:
		return fmt.Sprintf("%.6f MHz", hz/1e6)
	}
	return fmt.Sprintf("%+.3f kHz", hz/1e3)
}

func bandwidth(hz float64) string {
	if hz < 1e3 {
		return fmt.Sprintf("%.1f Hz", hz)
	}
	return fmt.Sprintf("%.2f kHz", hz/1e3)
}

func optional(v *float32, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

func flagNames(flags []protocol.Flag) string {
	if len(flags) == 0 {
		return ""
	}
	names := make([]string, len(flags))
	for i, f := range flags {
		names[i] = f.Short()
	}
	return "  " + strings.Join(names, ", ")
}
