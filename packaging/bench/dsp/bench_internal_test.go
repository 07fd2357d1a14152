//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

func TestReadOutput(t *testing.T) {
	o, err := readOutput(strings.NewReader("# version 3\n# plan 256 avx\nchain_own_name_cu8_4096\tMsps\t12.500\t13.000\nsurvey_heimdall_cu8_detection\tMsps\t1\t2\nchain_x_cf32_256\tMsps\t1\t2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (map[chainCase]float64{{"cu8", 4096}: 12.5, {"cf32", 256}: 1}); !maps.Equal(o.msps, want) {
		t.Errorf("got %v, want %v", o.msps, want)
	}
	if want := []string{"version 3", "plan 256 avx"}; !slices.Equal(o.notes, want) {
		t.Errorf("notes %q, want %q", o.notes, want)
	}
	for _, line := range []string{
		"chain_x_cu8_4096 Msps 1 2", "chain_x_cu8_4096\tMsps\t1", "chain_x_cu8_many\tMsps\t1\t2", "chain_x\tMsps\t1\t2",
		"chain_x_cu8_4096\tMsps\tfast\t2", "chain_x_cu8_4096\tMsps\t0\t0", "chain_x_cu8_4096\tMsps\tNaN\t1", "chain_x_cu8_4096\tns\t1\t2",
	} {
		if o, err := readOutput(strings.NewReader(line)); err == nil {
			t.Errorf("%q was read: %v", line, o)
		}
	}
}

func TestCasesLike(t *testing.T) {
	for expression, want := range map[string]int{"": 15, "cu8_4096": 1, "cu8": 5, "_(256|512)$": 6} {
		if got, err := casesLike(expression); err != nil || len(got) != want {
			t.Errorf("%q: got %v, %v, want %d", expression, got, err, want)
		}
	}
	for expression, want := range map[string]string{"[": "-only: ", "cu8_7": "-only cu8_7: finds none of [cu8_256 "} {
		if got, err := casesLike(expression); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, %v", expression, got, err)
		}
	}
}

// TestRun_Usage: what nobody can have meant is refused before anything is measured.
func TestRun_Usage(t *testing.T) {
	for want, args := range map[string][]string{
		"-rounds 0: want 1 or more": {"-rounds", "0"},
		`argument "cu8": `:          {"cu8", "-rounds", "1"},
		"-only none: finds none of": {"-only", "none"},
	} {
		if err := run(t.Context(), args); !errors.As(err, new(usageError)) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", args, err, want)
		}
	}
}

func FuzzReadOutput(f *testing.F) {
	f.Add("# a\nchain_x_cu8_4096\tMsps\t1\t2\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, _ := readOutput(strings.NewReader(text))
		for c, v := range o.msps {
			if !(v > 0) {
				t.Errorf("%v: %g", c, v)
			}
		}
	})
}

func TestSpread(t *testing.T) {
	for _, one := range []struct {
		values []float64
		want   string
	}{
		{[]float64{3, 1, 2}, "1.00/2.00/3.00"},
		{[]float64{4, 1, 2, 3}, "1.00/3.00/4.00"},
		{[]float64{70.4}, "70.4/70.4/70.4"},
	} {
		if got := spreadOf(one.values).String(); got != one.want {
			t.Errorf("%v: got %s, want %s", one.values, got, one.want)
		}
	}
}

// TestBench has programs of two lines each in place of ours and the peers: one that is as fast each round, one that is not there,
// one that breaks off.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := []chainCase{{"cu8", 256}, {"cu8", 4096}}
	b := bench{progress: io.Discard, cases: cases, programs: []*program{
		{name: best, command: []string{script(`printf "# engine $HEIMDALL_DSP\nchain_heimdall_$1\tMsps\t300\t310\n"`)}, env: []string{"HEIMDALL_DSP=avx2"}},
		{name: fftw, command: []string{script(`printf "# plan avx\nchain_fftw_$1\tMsps\t200\t210\n"`)}},
		{name: generic, command: []string{script(`printf "chain_heimdall_$1\tMsps\t20\t21\n"`)}},
		{name: volk, command: []string{filepath.Join(dir, "none")}, mend: "make bench-peers"},
		{name: gonum, command: []string{script(`printf "chain_gonum_$1\tMsps\t5\t6\n"`)}},
		{name: scipy, command: []string{script(`echo no module named scipy >&2; exit 1`)}, whole: true, mend: "make bench-peers"},
		{name: gnuradio, command: []string{script(`printf "chain_gnuradio_cu8_256\tMsps\t10\t11\nchain_gnuradio_cu8_4096\tMsps\t30\t31\n"`)}, whole: true},
	}}
	if err := b.run(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	b.print(&out)
	for _, want := range []string{
		"engine avx2", "plan avx", "MISSING (exit status 1 no module named scipy); mend: make bench-peers", "none: no such file or directory",
		"1.50/1.50/1.50", "30.0/30.0/30.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in it", want)
		}
	}
	for _, want := range [][]string{
		{"cu8", "256", "300.0", "200.0", "20.0", "missing", "5.0", "missing", "10.0"},
		{"cu8", "4096", "1.50/1.50/1.50", "missing", "60.0/60.0/60.0", "missing", "10.0/10.0/10.0"},
		{"best", "at", "least", "1.25", "×", "FFTW", "held", "1.50/1.50/1.50", "cu8_4096"},
		{"best", "at", "least", "65.00", "×", "gonum", "BELOW", "60.0/60.0/60.0", "cu8_4096"},
		{"best", "at", "least", "11.00", "×", "scipy", "NOT", "MEASURED"},
	} {
		if !slices.ContainsFunc(strings.Split(out.String(), "\n"), func(line string) bool { return slices.Equal(strings.Fields(line), want) }) {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	b.programs = []*program{{name: "silent", command: []string{script("exit 0")}}}
	if err := b.run(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "silent measured nothing for cu8_256") {
		t.Errorf("a program that measures nothing: %v", err)
	}
}

// TestGonum computes the power of a line by the peer's own code, so that it is known to do the work.
func TestGonum(t *testing.T) {
	const n = 256
	window := dsp.Hann(n).Coefficients
	wide := make([]float64, n)
	for i, w := range window {
		wide[i] = float64(w)
	}
	samples := make([]complex128, n)
	dsp.Tone(0.5, 0.125)(samples, 0)
	for format, fullScale := range map[dsp.Format]float64{dsp.CU8: 127.5, dsp.CS16: 32768, dsp.CF32: 1} {
		x := make([]complex128, n)
		windowed(x, dsp.Quantise(nil, samples, format), wide, format)
		worst := 0.0
		for i, s := range samples {
			d := x[i]/complex(fullScale, 0) - s*complex(wide[i], 0)
			worst = max(worst, math.Hypot(real(d), imag(d)))
		}
		if worst > 1/fullScale+1e-6 {
			t.Errorf("%v: %g off", format, worst)
		}
	}
	var out bytes.Buffer
	if err := runGonum(&out, []string{"cf32_256"}); err != nil {
		t.Fatal(err)
	}
	o, err := readOutput(&out)
	if err != nil || len(o.msps) != 1 || !(o.msps[chainCase{"cf32", 256}] > 0) {
		t.Errorf("%v, %v", o, err)
	}
}
