//go:build unix

package radio_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// pipeIn makes what a program writes the standard input of this test.
func pipeIn(t *testing.T, p radiotest.Program) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	words := p.Words()
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	before := os.Stdin
	os.Stdin = read
	t.Cleanup(func() {
		os.Stdin = before
		read.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

const stdinSource = "stdin:?format=cs16&center=7.1M&rate=100k"

func TestStdin_Conformance(t *testing.T) {
	from := func(p radiotest.Program, source string) func(t *testing.T) radio.Receiver {
		return func(t *testing.T) radio.Receiver {
			pipeIn(t, p)
			return newSource(t, source)
		}
	}
	for name, d := range map[string]radiotest.Driver{
		"real": {New: from(radiotest.Program{RateHz: 1e5}, stdinSource), Blocked: from(radiotest.Program{RateHz: 1e5, Stall: 1}, stdinSource)},
		"fast": {New: from(radiotest.Program{}, stdinSource+"&pace=fast"), Blocked: from(radiotest.Program{RateHz: 1e5, Stall: 1}, stdinSource+"&pace=fast")},
	} {
		t.Run(name, func(t *testing.T) {
			d.Tuning, d.Blocks = radio.Tuning{CenterHz: 8e6}, 6
			radiotest.Conformance(t, d)
		})
	}
}

// The end of the input is an end, and an odd tail is told.
func TestStdin_Ends(t *testing.T) {
	for _, pace := range []string{"real", "fast"} {
		pipeIn(t, radiotest.Program{RateHz: 1e5, Samples: 20000, Odd: 3})
		r := newSource(t, stdinSource+"&pace="+pace)
		if info := mustOpen(t, r); info.Live != (pace == "real") {
			t.Errorf("%s: live %v", pace, info.Live)
		}
		samples := uint64(0)
		err := readUntilError(t, r, func(b *radio.Block) { samples += uint64(b.Samples()) })
		if !errors.Is(err, io.EOF) || samples != 20000 {
			t.Errorf("%s: %d samples, then %v, want 20000 and the end", pace, samples, err)
		}
		if r.Health().Lost["odd_tail"] != 1 {
			t.Errorf("%s: the odd tail is not told", pace)
		}
		r.Close()
	}
}

// There is one standard input.
func TestStdin_Once(t *testing.T) {
	pipeIn(t, radiotest.Program{RateHz: 1e5})
	r := newSource(t, stdinSource)
	mustOpen(t, r)
	second := newSource(t, stdinSource)
	if _, err := second.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "another receiver reads it") {
		t.Errorf("a second receiver: %v", err)
	}
	second.Close()
	r.Close()
	third := newSource(t, stdinSource)
	if _, err := third.Open(t.Context()); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
	third.Close()
}

// A recording that is piped in is what it is as a file.
func TestStdin_Recording(t *testing.T) {
	raw := bytes.Repeat([]byte{1, 0, 2, 0}, 30000)
	path := write(t, "x.cs16", raw)
	pipeIn(t, radiotest.Program{File: path})
	r := newSource(t, "stdin:?format=cs16&rate=100k&pace=fast&swap_iq=true")
	mustOpen(t, r)
	var got []byte
	err := readUntilError(t, r, func(b *radio.Block) { got = append(got, b.Raw...) })
	if want := bytes.Repeat([]byte{2, 0, 1, 0}, 30000); !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, then %v, want %d swapped ones and the end", len(got), err, len(want))
	}
}

func TestStdin_URLFaults(t *testing.T) {
	for source, fields := range map[string]string{
		"stdin:":                               "format rate center",
		"stdin:x?format=cu8&rate=1M&center=1M": "path",
		"stdin:?format=cu8&rate=1M&pace=fast&stall=3s": "pace",
		"stdin:?format=cu8&rate=1M":                    "center",
		"stdin:?format=x&rate=1M&center=1M&gain=3":     "format gain",
	} {
		_, err := radio.Open(source, radio.Options{})
		var got []string
		for _, f := range radio.Faults(err) {
			got = append(got, f.Field)
		}
		if strings.Join(got, " ") != fields {
			t.Errorf("%s: faults of %q, want %q: %v", source, got, fields, err)
		}
	}
}
