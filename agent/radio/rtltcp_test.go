package radio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/protocol"
)

// newRTL makes a receiver of a fake server that it reaches without a network, so that the time of the test's bubble is the
// only one there is.
func newRTL(t *testing.T, server *radiotest.RTLTCP, parameters string) radio.Receiver {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) {
		return server.Connect(context.WithoutCancel(t.Context())), nil
	}
	r, err := radio.OpenRTLTCPOver(dial, "rtltcp://stick:1234?"+parameters, radio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onRTL runs a test in a bubble with an open receiver.
func onRTL(t *testing.T, set radiotest.RTLSettings, parameters string, test func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, info radio.Info)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := radiotest.NewRTLTCP(set)
		defer server.Close()
		r := newRTL(t, server, parameters)
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}()
		info, err := r.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		test(t, server, r, info)
	})
}

// follow reads until a time has passed, and hands each block on.
func follow(t *testing.T, r radio.Receiver, length time.Duration, each func(b *radio.Block)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var b radio.Block
	for {
		err := r.Read(ctx, &b)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		each(&b)
	}
}

// endOf reads until the receiver fails.
func endOf(t *testing.T, r radio.Receiver, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var b radio.Block
	for {
		if err := r.Read(ctx, &b); err != nil {
			return err
		}
	}
}

// exponential is a delay of a burst on a quiet network.
func exponential(seed uint64, mean time.Duration) func() time.Duration {
	random := rand.New(rand.NewPCG(seed, 0))
	return func() time.Duration { return time.Duration(random.ExpFloat64() * float64(mean)) }
}

func TestRTLTCP_Commands(t *testing.T) {
	for _, c := range []struct {
		parameters string
		want       string
		tuning     radio.Tuning
	}{
		{"", "05 0, 02 2048000, 01 100000000, 03 0", radio.Tuning{CenterHz: 100e6, SampleRateHz: 2.048e6, GainDB: math.NaN()}},
		{
			"center=433.92M&rate=250k&gain=21&ppm=-17&direct=off&bias_tee=on&offset_tuning=off&agc=off",
			"09 0, 0a 0, 08 0, 0e 1, 05 -17, 02 250000, 03 1, 04 207, 01 433920000",
			radio.Tuning{CenterHz: 433.92e6, SampleRateHz: 28.8e6 * 4194304 / 0x1ccccccc, GainDB: 20.7},
		},
		{"direct=q&center=7.1M", "09 2, 05 0, 02 2048000, 01 7100000, 03 0", radio.Tuning{CenterHz: 7.1e6, SampleRateHz: 2.048e6, GainDB: math.NaN()}},
		{"control=off&center=145M&rate=1.5M", "", radio.Tuning{CenterHz: 145e6, SampleRateHz: 1.5e6, GainDB: math.NaN()}},
	} {
		onRTL(t, radiotest.RTLSettings{}, c.parameters, func(t *testing.T, server *radiotest.RTLTCP, _ radio.Receiver, info radio.Info) {
			synctest.Wait()
			var got []string
			for _, command := range server.Commands() {
				got = append(got, fmt.Sprintf("%02x %d", command.Code, int32(command.Argument)))
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("%s: commands are %s, want %s", c.parameters, got, c.want)
			}
			same := info.Tuning.CenterHz == c.tuning.CenterHz && math.Abs(info.Tuning.SampleRateHz-c.tuning.SampleRateHz) < 1e-6 &&
				(info.Tuning.GainDB == c.tuning.GainDB || math.IsNaN(info.Tuning.GainDB) && math.IsNaN(c.tuning.GainDB))
			if !same {
				t.Errorf("%s: tuning %+v, want %+v", c.parameters, info.Tuning, c.tuning)
			}
			if !info.MaskDC || !info.Live || info.Tunable == strings.Contains(c.parameters, "control=off") {
				t.Errorf("%s: %+v", c.parameters, info)
			}
		})
	}
}

func TestRTLTCP_Parameters(t *testing.T) {
	for _, c := range []struct{ source, field string }{
		{"rtltcp:host", "host"},
		{"rtltcp://host:0", "port"},
		{"rtltcp://host?rate=500k", "rate"},
		{"rtltcp://host?rate=225k", "rate"},
		{"rtltcp://host?rate=3.3M", "rate"},
		{"rtltcp://host?center=5G", "center"},
		{"rtltcp://host?gain=loud", "gain"},
		{"rtltcp://host?gain=500", "gain"},
		{"rtltcp://host?ppm=0.5", "ppm"},
		{"rtltcp://host?direct=yes", "direct"},
		{"rtltcp://host?control=off", "control"},
		{"rtl_tcp://host?buffer=0s", "buffer"},
		{"rtl_tcp://host?volume=3", "volume"},
	} {
		_, err := radio.Open(c.source, radio.Options{})
		faults := radio.Faults(err)
		if len(faults) != 1 || faults[0].Field != c.field {
			t.Errorf("%s: %v, want one fault of %s", c.source, err, c.field)
		}
	}
}

// TestRTLTCP_Headers opens servers that begin in ways of their own.
func TestRTLTCP_Headers(t *testing.T) {
	for _, c := range []struct {
		name, parameters string
		set              radiotest.RTLSettings
		hardware, fails  string
	}{
		{"an R820T", "", radiotest.RTLSettings{}, "R820T", ""},
		{"an E4000", "", radiotest.RTLSettings{Tuner: 1, Gains: 14}, "E4000", ""},
		{"a tuner of later", "", radiotest.RTLSettings{Tuner: 77, Gains: 3}, "unknown tuner", ""},
		{"beyond the tuner", "center=2G", radiotest.RTLSettings{}, "", "24 MHz to 1.766 GHz"},
		{"OpenWebRX", "center=145M&rate=2.4M", radiotest.RTLSettings{Header: radiotest.HeaderLittleEndian, Deaf: true}, "OpenWebRX", ""},
		{"OpenWebRX, not said where", "", radiotest.RTLSettings{Header: radiotest.HeaderLittleEndian, Deaf: true}, "", "takes no commands"},
		{"something else", "", radiotest.RTLSettings{Header: radiotest.HeaderGarbage}, "", `this is no rtl_tcp: it begins with "HTTP"`},
		{"a busy one", "", radiotest.RTLSettings{Header: radiotest.HeaderNone}, "", "busy"},
		{"a slow one", "", radiotest.RTLSettings{Header: radiotest.HeaderDrip}, "", "read the header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := radiotest.NewRTLTCP(c.set)
				defer server.Close()
				r := newRTL(t, server, c.parameters)
				began := time.Now()
				info, err := r.Open(t.Context())
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				if c.fails == "" && (err != nil || !strings.Contains(info.Hardware, c.hardware)) {
					t.Errorf("hardware %q, error %v, want %q", info.Hardware, err, c.hardware)
				}
				if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
					t.Errorf("error %v, want %q", err, c.fails)
				}
				if refusal, ok := errors.AsType[*radio.Refusal](err); ok != (c.fails == "busy") || ok && (refusal.After < 5*time.Second || refusal.Mend == "") {
					t.Errorf("refusal %+v", refusal)
				}
				r.Close()
			})
		})
	}
}

// TestRTLTCP_SecondClient is served nothing, by a real socket, and says so.
func TestRTLTCP_SecondClient(t *testing.T) {
	t.Parallel()
	server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{})
	start(t, newSource(t, "rtltcp://"+server.Address()))
	err := openError(t.Context(), "rtltcp://"+server.Address(), radio.Options{})
	if refusal, ok := errors.AsType[*radio.Refusal](err); !ok || refusal.Reason != "busy" {
		t.Errorf("a second client got %v, want a refusal", err)
	}
	if clients, _ := server.Clients(); clients != 1 {
		t.Errorf("%d clients were served", clients)
	}
}

func TestRTLTCP_NobodyThere(t *testing.T) {
	server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{})
	server.Close()
	err := openError(t.Context(), "rtltcp://"+server.Address(), radio.Options{})
	if err == nil || !strings.Contains(err.Error(), "start rtl_tcp") {
		t.Errorf("got %v, want what to do", err)
	}
}

// testMode checks that bytes of the counter follow each other over all blocks. Missing ones break it.
type testMode struct {
	next  byte
	total uint64
	wrong int
}

// counters has the counter from any value on, longer than any block.
var counters = func() []byte {
	b := make([]byte, 1<<18)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

func (c *testMode) block(b *radio.Block) {
	if c.total == 0 {
		c.next = b.Raw[0]
	}
	if !bytes.Equal(b.Raw, counters[c.next:][:len(b.Raw)]) {
		c.wrong++
	}
	c.next += byte(len(b.Raw))
	c.total += uint64(len(b.Raw))
}

// TestRTLTCP_LosesNothing has the counter of the test mode at 2.4 Msps, in pieces of odd sizes.
func TestRTLTCP_LosesNothing(t *testing.T) {
	set := radiotest.RTLSettings{Counter: true, Split: []int{65535, 4097, 1, 131071, 3}, Jitter: exponential(1, 500*time.Microsecond), PPM: 30}
	onRTL(t, set, "rate=2.4M", func(t *testing.T, _ *radiotest.RTLTCP, r radio.Receiver, _ radio.Info) {
		var count testMode
		var before radio.Block
		follow(t, r, losslessFor, func(b *radio.Block) {
			count.block(b)
			if b.Segment != 0 || b.LostBefore > 0 || b.Index != before.Index+uint64(before.Samples()) {
				t.Fatalf("block at %d of segment %d, %d lost before it, follows that at %d", b.Index, b.Segment, b.LostBefore, before.Index)
			}
			before = *b
		})
		if want := uint64(2 * 2.4e6 * (losslessFor - time.Second).Seconds()); count.wrong > 0 || count.total < want {
			t.Errorf("%d of %d bytes came, %d blocks break the counter", count.total, want, count.wrong)
		}
		h := r.Health()
		if len(h.Lost) > 0 || math.Abs(h.RatePPM-30) > 1 || h.Lag > 0 {
			t.Errorf("health %+v, want 30 ppm and nothing lost", h)
		}
		if before.TimeQuality != protocol.TimeQuality_TIME_QUALITY_ARRIVAL || before.TimeUncertainty < 100*time.Millisecond {
			t.Errorf("time is %v within %v", before.TimeQuality, before.TimeUncertainty)
		}
		if late := time.Since(before.End()); late < 0 || late > 110*time.Millisecond {
			t.Errorf("the last block ended %v ago by its time", late)
		}
	})
}

func TestRTLTCP_FindsLoss(t *testing.T) {
	for _, ms := range []int{1, 3, 10, 30, 100} {
		set := radiotest.RTLSettings{Jitter: exponential(uint64(ms), 500*time.Microsecond), PPM: -20}
		onRTL(t, set, "rate=2.4M", func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, _ radio.Info) {
			var lost uint64
			segments := map[uint32]bool{}
			see := func(b *radio.Block) { lost, segments[b.Segment] = lost+b.LostBefore, true }
			follow(t, r, 15*time.Second, see)
			server.Lose(time.Duration(ms) * time.Millisecond)
			follow(t, r, 15*time.Second, see)
			if want := float64(ms) * 2400; math.Abs(float64(lost)-want) > want/5 {
				t.Errorf("%d ms: %d samples declared lost, want %.0f within a fifth", ms, lost, want)
			}
			if len(segments) != 2 || r.Health().Lost["missing"] != lost {
				t.Errorf("%d ms: %d segments, health counts %v", ms, len(segments), r.Health().Lost)
			}
		})
	}
}

// TestRTLTCP_Queue holds the stream up. The link is faster than the stream, so it catches up.
func TestRTLTCP_Queue(t *testing.T) {
	set := radiotest.RTLSettings{Counter: true, Link: 1.3 * 4.8e6, Split: []int{16384}}
	onRTL(t, set, "rate=2.4M", func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, _ radio.Info) {
		var count testMode
		var most time.Duration
		see := func(b *radio.Block) { count.block(b); most = max(most, r.Health().Lag) }
		follow(t, r, 10*time.Second, see)
		if most > 0 {
			t.Errorf("lag of %v on a free link", most)
		}
		server.Stall(time.Second)
		follow(t, r, 20*time.Second, see)
		if most < 600*time.Millisecond || most > 1100*time.Millisecond {
			t.Errorf("lag of %v reported after a stall of 1 s", most)
		}
		if h := r.Health(); count.wrong > 0 || len(h.Lost) > 0 || h.Lag > 0 {
			t.Errorf("%d blocks break the counter, health %+v", count.wrong, h)
		}
	})
}

func TestRTLTCP_QueueOverflows(t *testing.T) {
	set := radiotest.RTLSettings{Queue: 8, Jitter: exponential(3, 300*time.Microsecond)}
	onRTL(t, set, "rate=2.4M", func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, _ radio.Info) {
		var lost uint64
		see := func(b *radio.Block) { lost += b.LostBefore }
		follow(t, r, 10*time.Second, see)
		server.Stall(time.Second)
		follow(t, r, 15*time.Second, see)
		_, dropped := server.Clients()
		if want := float64(dropped) / 2; want == 0 || math.Abs(float64(lost)-want) > want/10 {
			t.Errorf("%d samples declared lost, the server dropped %.0f", lost, want)
		}
	})
}

// TestRTLTCP_Ends are reasons to connect anew.
func TestRTLTCP_Ends(t *testing.T) {
	for _, c := range []struct {
		name, parameters string
		set              radiotest.RTLSettings
		fault            func(*radiotest.RTLTCP)
		within           time.Duration
		want             string
	}{
		{"late", "rate=2.4M", radiotest.RTLSettings{Link: 1.2 * 4.8e6}, func(s *radiotest.RTLTCP) { s.Stall(4 * time.Second) }, 8 * time.Second, "s late"},
		{"silent", "", radiotest.RTLSettings{}, (*radiotest.RTLTCP).Mute, 6 * time.Second, "no samples for 5s"},
		{"closed", "", radiotest.RTLSettings{}, (*radiotest.RTLTCP).Drop, time.Second, "the connection ended"},
		{"another rate", "rate=2.4M&center=100M&control=off", radiotest.RTLSettings{}, nil, 10 * time.Second, "samples come at 2.048 MHz, not at 2.4 MHz"},
		{"a narrow link", "rate=2.4M", radiotest.RTLSettings{Link: 4e6}, nil, 15 * time.Second, "the link is too slow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRTL(t, c.set, c.parameters, func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, _ radio.Info) {
				if c.fault != nil {
					follow(t, r, 4*time.Second, func(*radio.Block) {})
					c.fault(server)
				}
				if err := endOf(t, r, c.within); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ended with %v, want %q", err, c.want)
				}
				if h := r.Health(); h.Connected || h.Err == nil {
					t.Errorf("health %+v after the end", h)
				}
			})
		})
	}
}

// TestRTLTCP_Retune marks each sample with the tuning that it was taken with.
func TestRTLTCP_Retune(t *testing.T) {
	mark := func(centerHz, rateHz float64) byte {
		return byte(math.Round(centerHz/1e6)) ^ byte(math.Round(rateHz/1e5))
	}
	set := radiotest.RTLSettings{
		Jitter: exponential(5, 500*time.Microsecond), Split: []int{30001},
		Source: func(iq []byte, tuning radiotest.RTLTuning) {
			for i := range iq {
				iq[i] = mark(float64(tuning.CenterHz), float64(tuning.RateHz))
			}
		},
	}
	onRTL(t, set, "rate=2.4M&center=100M&gain=20", func(t *testing.T, server *radiotest.RTLTCP, r radio.Receiver, info radio.Info) {
		now := info.Tuning
		segment := uint32(0)
		follow(t, r, 2*time.Second, func(*radio.Block) {})
		for i, to := range []radio.Tuning{
			{CenterHz: 101e6},
			{CenterHz: 102e6, GainDB: math.NaN()},
			{SampleRateHz: 1.024e6},
			{SampleRateHz: 250e3, CenterHz: 144e6},
			{GainDB: 30.1},
			{SampleRateHz: 2.4e6},
		} {
			asked := time.Now()
			if err := r.Tune(t.Context(), to); err != nil {
				t.Fatalf("tune %d: %v", i, err)
			}
			settled := time.Duration(0)
			follow(t, r, 3*time.Second, func(b *radio.Block) {
				if b.LostBefore > 0 {
					t.Errorf("tune %d: %d samples lost", i, b.LostBefore)
				}
				if b.Segment == segment {
					if b.Tuning.CenterHz != now.CenterHz || b.Time.Before(asked) && i == 0 && b.Flags != 0 {
						t.Fatalf("tune %d: block of the old segment with %+v", i, b.Tuning)
					}
					if b.Time.After(asked.Add(time.Second)) {
						t.Fatalf("tune %d: no new segment", i)
					}
				} else if b.Segment != segment+1 {
					t.Fatalf("tune %d: segment %d after %d", i, b.Segment, segment)
				}
				if b.Flags&radio.Settling != 0 {
					if b.Segment == segment {
						t.Errorf("tune %d: the old segment is settling", i)
					}
					return
				}
				if b.Segment != segment && settled == 0 {
					settled = b.Time.Sub(asked)
				}
				want := mark(b.Tuning.CenterHz, b.Tuning.SampleRateHz)
				if n := bytes.Count(b.Raw, []byte{want}); n != len(b.Raw) {
					t.Fatalf("tune %d: %d of %d bytes at %v are not of %+v", i, len(b.Raw)-n, len(b.Raw), b.Time.Sub(asked), b.Tuning)
				}
				if b.Segment != segment {
					now = b.Tuning
				}
			})
			if settled <= 0 || settled > info.Range.Settling+50*time.Millisecond && to.SampleRateHz == 0 {
				t.Errorf("tune %d: settled after %v, promised %v", i, settled, info.Range.Settling)
			}
			segment++
		}
		if want := (radio.Tuning{CenterHz: 144e6, SampleRateHz: 2.4e6, GainDB: 29.7}); now != want {
			t.Errorf("in the end %+v is applied, want %+v", now, want)
		}
		if got := server.Tuning(); got != (radiotest.RTLTuning{CenterHz: 144e6, RateHz: 2.4e6, GainTenths: 297}) {
			t.Errorf("in the end the stick has %+v", got)
		}
		if err := r.Tune(t.Context(), radio.Tuning{SampleRateHz: 500e3}); len(radio.Faults(err)) != 1 {
			t.Errorf("a rate between the ranges: %v", err)
		}
	})
}

func TestRTLTCP_Conformance(t *testing.T) {
	t.Parallel()
	radiotest.Conformance(t, radiotest.Driver{
		New: func(t *testing.T) radio.Receiver {
			return newSource(t, "rtltcp://"+radiotest.StartRTLTCP(t, radiotest.RTLSettings{Split: []int{9999}}).Address())
		},
		Blocked: func(t *testing.T) radio.Receiver {
			server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{})
			server.Mute()
			return newSource(t, "rtltcp://"+server.Address())
		},
		Losing: func(t *testing.T) radio.Receiver {
			server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{})
			loss := time.AfterFunc(3*time.Second, func() { server.Lose(100 * time.Millisecond) }) // when the link is known
			t.Cleanup(func() { loss.Stop() })
			return newSource(t, "rtltcp://"+server.Address())
		},
		Lost: 204800, LostWithin: 0.2, LosingBlocks: 220,
		Tuning: radio.Tuning{CenterHz: 145.5e6},
	})
}
