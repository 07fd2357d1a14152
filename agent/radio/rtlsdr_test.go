//go:build unix

package radio_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// stick is a source whose program is a stand-in.
func stick(t *testing.T, p radiotest.RTLProgram) string {
	t.Helper()
	return "rtlsdr://00000007?rate=1.024M&program=" + p.Install(t)
}

// started are the process ids and the arguments in a program's log.
func started(t *testing.T, log string) (pids []int, args []string) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		pid, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		pids, args = append(pids, n), append(args, rest)
	}
	return pids, args
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	running := func() bool {
		if syscall.Kill(pid, 0) != nil {
			return false
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || !strings.Contains(string(stat), ") Z ")
	}
	for deadline := time.Now().Add(10 * time.Second); running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still running", pid)
		}
	}
}

func TestRTLSDR_RunsTheProgram(t *testing.T) {
	t.Parallel()
	for _, stubborn := range []bool{false, true} {
		log := filepath.Join(t.TempDir(), "log")
		r := newSource(t, stick(t, radiotest.RTLProgram{Log: log, Wait: 300 * time.Millisecond, IgnoreTERM: stubborn}))
		info, err := r.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := "RTL-SDR stick 00000007 with R820T"; info.Hardware != want || info.Tuning.SampleRateHz != 1.024e6 {
			t.Errorf("%q at %v Hz, want %q", info.Hardware, info.Tuning.SampleRateHz, want)
		}
		var b radio.Block
		if err := r.Read(t.Context(), &b); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		pids, args := started(t, log)
		if len(pids) != 1 || !strings.HasPrefix(args[0], "-a 127.0.0.1 -p ") || !strings.Contains(args[0], " -d 00000007") {
			t.Fatalf("started as %v with %q", pids, args)
		}
		gone(t, pids[0])
	}
}

func TestRTLSDR_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, says, want string }{
		{"the kernel has it", "Found 1 device(s):\n\nUsing device 0: Generic RTL2832U OEM\nusb_claim_interface error -6\nFailed to open rtlsdr device #0.\n", "rmmod dvb_usb_rtl28xxu"},
		{"no right", "usb_open error -3\nPlease fix the device permissions, e.g. by installing the udev rules file rtl-sdr.rules\n", "udev"},
		{"none there", "No supported devices found.\n", "no RTL-SDR stick is plugged in"},
		{"another serial", "Found 1 device(s):\n\nNo matching devices found.\n", "rtl_test"},
		{"something new", "The moon is in the way.\n", `it said last: "The moon is in the way."`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := openError(t.Context(), stick(t, radiotest.RTLProgram{Say: c.says, Exit: 1}), radio.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if known := c.name != "something new"; known != (len(radio.Faults(err)) == 1) {
				t.Errorf("faults %v", radio.Faults(err))
			}
		})
	}
	err := openError(t.Context(), "rtlsdr://0?program=/nowhere/rtl_tcp", radio.Options{})
	if faults := radio.Faults(err); len(faults) != 1 || faults[0].Field != "program" || !strings.Contains(faults[0].Mend, "apt install rtl-sdr") {
		t.Errorf("without the program: %v", err)
	}
	for _, source := range []string{"rtlsdr:", "rtlsdr://", "rtlsdr://a/b", "rtlsdr://-x", "rtlsdr://0?control=off"} {
		if _, err := radio.Open(source, radio.Options{}); len(radio.Faults(err)) != 1 {
			t.Errorf("%s: %v, want one fault", source, err)
		}
	}
}

// TestRTLSDR_ProgramDies while it is read: the error says so, and the next connection has a program of its own.
func TestRTLSDR_ProgramDies(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	source := stick(t, radiotest.RTLProgram{Log: log, DieAfter: 1500 * time.Millisecond, SayDying: "cb transfer status: 5, canceling...\n"})
	for range 2 {
		r := newSource(t, source)
		start(t, r)
		err := endOf(t, r, 10*time.Second)
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "cb transfer status: 5") {
			t.Errorf("ended with %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	pids, _ := started(t, log)
	if len(pids) != 2 {
		t.Fatalf("%d programs were started, want 2", len(pids))
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

// TestRTLSDR_NoOrphan kills the process that runs the program, which on Linux takes the program along.
func TestRTLSDR_NoOrphan(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), holdVariable+"="+stick(t, radiotest.RTLProgram{Log: log, IgnoreTERM: true}))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for deadline := time.Now().Add(20 * time.Second); len(pids) == 0; pids, _ = started(t, log) {
		if time.Now().After(deadline) {
			t.Fatal("the program was not started")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	gone(t, pids[0])
}

func TestRTLSDR_Conformance(t *testing.T) {
	t.Parallel()
	radiotest.Conformance(t, radiotest.Driver{
		New: func(t *testing.T) radio.Receiver {
			return newSource(t, stick(t, radiotest.RTLProgram{Server: radiotest.RTLSettings{Split: []int{7777}}}))
		},
		Tuning: radio.Tuning{CenterHz: 145.5e6},
	})
}

func FuzzRTLMend(f *testing.F) {
	f.Add("usb_claim_interface error -6\n")
	f.Add("\r\r\xff\n")
	f.Fuzz(func(t *testing.T, said string) {
		if s := radio.RTLSaid(said); strings.ContainsAny(s, "\n\x00") || len(s) > 2000 {
			t.Fatalf("%q becomes %q", said, s)
		}
	})
}
