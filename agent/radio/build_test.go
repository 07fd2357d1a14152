package radio_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
)

// Builders of recordings: the truth of the parsers' tests.

func u16(v int) []byte    { return binary.LittleEndian.AppendUint16(nil, uint16(v)) }
func u32(v int) []byte    { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }
func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// part is a RIFF chunk.
func part(id string, content []byte) []byte {
	b := cat([]byte(id), u32(len(content)), content)
	if len(content)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

// format is a fmt chunk's content.
func format(code, channels, rate, bits int) []byte {
	return cat(u16(code), u16(channels), u32(rate), u32(rate*channels*bits/8), u16(channels*bits/8), u16(bits))
}

func riff(chunks ...[]byte) []byte {
	all := cat(chunks...)
	return cat([]byte("RIFF"), u32(len(all)+4), []byte("WAVE"), all)
}

// ramp is n 16-bit I/Q samples whose I counts from first and whose Q is its complement.
func ramp(first, n int) []byte {
	var b []byte
	for i := first; i < first+n; i++ {
		b = append(b, u16(i&0x7fff)...)
		b = append(b, u16(^i)...)
	}
	return b
}

// kiwiFrame is one frame of a KiwiSDR recording.
type kiwiFrame struct {
	sec, ns int
	age     byte
	samples int
}

// kiwiWAV makes a KiwiSDR recording whose samples are one ramp.
func kiwiWAV(headerRate int, frames []kiwiFrame) []byte {
	chunks := [][]byte{part("fmt ", format(1, 2, headerRate, 16))}
	at := 0
	for _, f := range frames {
		chunks = append(chunks, part("kiwi", cat([]byte{f.age, 0}, u32(f.sec), u32(f.ns))), part("data", ramp(at, f.samples)))
		at += f.samples
	}
	return riff(chunks...)
}

// kiwiFrames are n frames of 512 samples from a time of week on, at a true rate.
func kiwiFrames(n int, startS, rateHz float64) []kiwiFrame {
	frames := make([]kiwiFrame, n)
	for i := range frames {
		t := startS + float64(i)*512/rateHz
		sec := math.Floor(t)
		frames[i] = kiwiFrame{sec: int(sec) % 604800, ns: int((t - sec) * 1e9), age: 2, samples: 512}
	}
	return frames
}

func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newFile makes a receiver of a recording with parameters such as "pace=real&every=30s".
func newFile(t testing.TB, path, parameters string) radio.Receiver {
	t.Helper()
	return newSource(t, radio.FileSource(path)+"?"+parameters)
}

func newSource(t testing.TB, source string) radio.Receiver {
	t.Helper()
	return newSourceWith(t, source, radio.Options{})
}

func newSourceWith(t testing.TB, source string, options radio.Options) radio.Receiver {
	t.Helper()
	r, err := radio.Open(source, options)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start opens a receiver for the rest of the test.
func start(t testing.TB, r radio.Receiver) radio.Info {
	t.Helper()
	info, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return info
}

// drain reads blocks to the end of a recording.
func drain(t testing.TB, r radio.Receiver) []radio.Block {
	t.Helper()
	var all []radio.Block
	for {
		var b radio.Block
		err := r.Read(t.Context(), &b)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
}

// play opens and drains a recording.
func play(t testing.TB, path, parameters string) (radio.Info, []radio.Block) {
	t.Helper()
	r := newFile(t, path, parameters)
	info := start(t, r)
	return info, drain(t, r)
}

// raw joins the samples of blocks.
func raw(blocks []radio.Block) []byte {
	var b []byte
	for i := range blocks {
		b = append(b, blocks[i].Raw...)
	}
	return b
}

// openError is what opening a recording ends with.
func openError(ctx context.Context, source string, opts radio.Options) error {
	r, err := radio.Open(source, opts)
	if err != nil {
		return err
	}
	_, err = r.Open(ctx)
	return errors.Join(err, r.Close())
}
