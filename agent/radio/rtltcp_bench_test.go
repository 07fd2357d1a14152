//go:build unix

package radio_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// ownServer is a receiver of a fake server at 2.4 Msps that is a process of its own, as rtl_tcp is.
func ownServer(t testing.TB) radio.Receiver {
	program := radiotest.RTLProgram{Server: radiotest.RTLSettings{Counter: true}}
	return newSource(t, "rtlsdr://0?rate=2.4M&program="+program.Install(t))
}

// processorTime is what this process has used so far.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkRTLTCP is one block of 2.4 Msps at true speed. The share of a processor core is what it costs.
func BenchmarkRTLTCP(b *testing.B) {
	r := ownServer(b)
	start(b, r)
	var block radio.Block
	for range 100 { // until all buffers are there
		if err := r.Read(b.Context(), &block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(block.Raw)))
	before, began := processorTime(b), time.Now()
	for b.Loop() {
		if err := r.Read(b.Context(), &block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(processorTime(b)-before)/float64(time.Since(began)), "%core")
}

// TestRTLTCP_TrueSpeed has the counter of the test mode over a real socket in real time: for 5 s, or as long as
// HEIMDALL_RTL_FOR says.
func TestRTLTCP_TrueSpeed(t *testing.T) {
	t.Parallel()
	length := 5 * time.Second
	if v := os.Getenv("HEIMDALL_RTL_FOR"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	r := ownServer(t)
	start(t, r)
	var count testMode
	follow(t, r, length, func(b *radio.Block) { count.block(b) })
	want := uint64(4.8e6 * (length - 2*time.Second).Seconds())
	if count.wrong > 0 || count.total < want {
		t.Errorf("%d bytes came, want %d; %d blocks break the counter; health %+v", count.total, want, count.wrong, r.Health())
	}
}
