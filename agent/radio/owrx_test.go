//go:build unix

package radio_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// owrxSource starts an OpenWebRX and gives the source for it.
func owrxSource(t *testing.T, o *radiotest.OpenWebRX, query string) string {
	t.Helper()
	web, connector := o.Start(t)
	return "owrx://" + connector + "?web=http://" + web + query
}

func TestOwrx_Conformance(t *testing.T) {
	radiotest.Conformance(t, radiotest.Driver{
		New: func(t *testing.T) radio.Receiver { return newSource(t, owrxSource(t, &radiotest.OpenWebRX{}, "")) },
		Blocked: func(t *testing.T) radio.Receiver {
			return newSource(t, owrxSource(t, &radiotest.OpenWebRX{Mute: true}, "&stall=1h"))
		},
		Tuning: radio.Tuning{CenterHz: 8e6},
		Blocks: 10,
	})
}

// Samples whose numbers are missing are found by the clock.
func TestOwrx_Loss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the clock 7 s")
	}
	t.Parallel()
	r := newSource(t, owrxSource(t, &radiotest.OpenWebRX{LoseAt: 1e6, Lose: 12500}, ""))
	mustOpen(t, r)
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	var b radio.Block
	for b.LostBefore == 0 {
		if err := r.Read(ctx, &b); err != nil {
			t.Fatalf("no loss was found: %v", err)
		}
	}
	if off := math.Abs(float64(b.LostBefore) - 12500); off > 2500 || b.LostExact || b.Segment == 0 {
		t.Errorf("%d samples found missing (exact: %v, segment %d) of 12500", b.LostBefore, b.LostExact, b.Segment)
	}
}

// Every block after a retune says the centre of its samples, but those marked as settling.
func TestOwrx_Retune(t *testing.T) {
	o := &radiotest.OpenWebRX{}
	r := newSource(t, owrxSource(t, o, ""))
	info := mustOpen(t, r)
	if info.Tunable || info.Tuning.CenterHz != 145e6 || info.Tuning.SampleRateHz != 250e3 {
		t.Errorf("opened as %+v", info)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var b radio.Block
	until := func(what string, done func() bool) {
		t.Helper()
		for {
			if err := r.Read(ctx, &b); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			center := float64(math.Float32frombits(binary.LittleEndian.Uint32(b.Raw[len(b.Raw)-4:]))) * 1e12
			if b.Flags&radio.Settling == 0 && math.Abs(center-b.Tuning.CenterHz) > 100 {
				t.Errorf("%s: a block of %.0f Hz says %.0f Hz", what, center, b.Tuning.CenterHz)
			}
			if done() {
				return
			}
		}
	}
	until("start", func() bool { return b.Segment == 0 })
	o.Retune(433.9e6)
	until("retuned", func() bool { return b.Segment == 1 })
	if b.Flags&radio.Settling == 0 || b.Tuning.CenterHz != 433.9e6 {
		t.Errorf("first block after a retune: %+v %v", b.Tuning, b.Flags)
	}
	until("settled", func() bool { return b.Flags&radio.Settling == 0 })
	o.SetRate(100e3)
	until("another rate", func() bool { return b.Segment == 2 && b.Flags&radio.Settling == 0 })
	if b.Tuning.SampleRateHz != 100e3 || b.Tuning.CenterHz != 433.9e6 {
		t.Errorf("after another rate: %+v", b.Tuning)
	}
	o.Pause(1500 * time.Millisecond)
	until("reopened", func() bool { return b.Segment == 3 })
	if n := float64(b.LostBefore); math.Abs(n-150e3) > 20e3 || b.LostExact {
		t.Errorf("%.0f samples are lost in 1.5 s of silence, want 150000", n)
	}
}

// Whatever ends, the receiver ends with words that say what it was.
func TestOwrx_Ends(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(o *radiotest.OpenWebRX)
		want string
	}{
		"the connector drops":  {(*radiotest.OpenWebRX).Drop, "connector has closed"},
		"the web socket drops": {(*radiotest.OpenWebRX).CloseWeb, "listen to OpenWebRX"},
		"another device":       {func(o *radiotest.OpenWebRX) { o.GiveAnother("hackrf") }, "has given this listener the device hackrf instead of rtlsdr"},
		"silence":              {func(o *radiotest.OpenWebRX) { o.Pause(time.Hour) }, "no samples for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &radiotest.OpenWebRX{}
			r := newSource(t, owrxSource(t, o, "&stall=1s"))
			mustOpen(t, r)
			var b radio.Block
			if err := r.Read(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			tc.end(o)
			if err := readUntilError(t, r, func(*radio.Block) {}); !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
			r.Close()
			for deadline := time.Now().Add(5 * time.Second); o.Clients() > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the place among the listeners is still taken")
				}
			}
		})
	}
}

// Who is not wanted stays away, for long where OpenWebRX+ has taken him for a robot.
func TestOwrx_Refused(t *testing.T) {
	for reason, want := range map[string]string{"Too many clients": "too_busy", "Client address banned": "banned", "": "disabled"} {
		o := &radiotest.OpenWebRX{Refuse: reason, NoDevice: reason == ""}
		r := newSource(t, owrxSource(t, o, ""))
		_, err := r.Open(t.Context())
		if no, said := errors.AsType[*radio.Refusal](err); !said || no.Reason != want || no.After < 15*time.Second || no.Mend == "" {
			t.Errorf("%s: got %v, want a refusal as %s", reason, err, want)
		}
		r.Close()
	}
}

// A device that is asked for by name is chosen, without a retune for anybody.
func TestOwrx_ChoosesTheDevice(t *testing.T) {
	o := &radiotest.OpenWebRX{Device: "airspy"}
	r := newSource(t, owrxSource(t, o, "&sdr=airspy"))
	if info := mustOpen(t, r); info.Hardware != "OpenWebRX airspy" {
		t.Errorf("opened %q", info.Hardware)
	}
	want := "SERVER DE CLIENT client=heimdall type=receiver\n" + `{"type":"setsdr","params":{"sdr":"airspy"}}`
	said := func() string { return strings.Join(o.Said(), "\n") }
	for deadline := time.Now().Add(5 * time.Second); said() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("said\n%s\nwant\n%s", said(), want)
		}
	}
}

// Garbage and slow servers harm nobody.
func TestOwrx_Garbage(t *testing.T) {
	for name, o := range map[string]*radiotest.OpenWebRX{"garbage": {Garbage: true}, "one byte at a time": {Trickle: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSource(t, owrxSource(t, o, "&stall=2s"))
			mustOpen(t, r)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var b radio.Block
			for r.Read(ctx, &b) == nil {
				if len(b.Raw)%8 != 0 {
					t.Errorf("a block of %d bytes", len(b.Raw))
				}
			}
			began := time.Now()
			r.Close()
			if took := time.Since(began); took > time.Second {
				t.Errorf("Close took %s", took)
			}
		})
	}
}

// With web=off nobody is asked; whoever says so knows where the device is tuned to.
func TestOwrx_WithoutWeb(t *testing.T) {
	_, connector := (&radiotest.OpenWebRX{}).Start(t)
	r := newSource(t, "owrx://"+connector+"?web=off&center=145M&rate=250k&dc=mask")
	if info := mustOpen(t, r); !info.MaskDC || info.Tuning.CenterHz != 145e6 {
		t.Errorf("opened as %+v", info)
	}
	var b radio.Block
	if err := r.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

func TestOwrx_Probe(t *testing.T) {
	source := owrxSource(t, &radiotest.OpenWebRX{}, "")
	found, err := radio.Probe(t.Context(), source, radio.Options{}, 300*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, f := range found.Facts {
		text += f.Name + " " + f.Text + "\n"
	}
	if want := "server OpenWebRX v1.2.2, Test receiver\nplace Torino\nusers 20 at most\ndevice RTL-SDR (RtlSdrSource): 2m 145 MHz at 250 kHz\n"; text != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
}

func TestOwrx_URLFaults(t *testing.T) {
	for source, fields := range map[string]string{
		"owrx:":                                       "host",
		"owrx://192.0.2.1":                            "port",
		"owrx://127.0.0.1:4950?web=here":              "web",
		"owrx://127.0.0.1:4950?web=off":               "center rate",
		"owrx://127.0.0.1:4950?center=7M":             "center",
		"owrx://127.0.0.1?swap_iq=1&dc=x&stall=y&a=b": "swap_iq dc stall a",
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
