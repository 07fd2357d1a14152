package radiotest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Program is a program that writes samples to its standard output, as rtl_sdr and arecord do: the test binary, run again. The
// test's TestMain has to call ActAsProgram first of all.
type Program struct {
	RateHz float64       // samples a second; 0: as fast as they are taken
	Width  int           // bytes of a sample; 0: 4. The first ones are the sample's number, little-endian
	Burst  time.Duration // between writes; 0: 20 ms
	File   string        // what to write instead of numbers; then it ends

	Samples uint64 // ends after so many; 0: never
	Exit    int    // exit status then
	Odd     int    // bytes of one more sample, which are written before the end

	Say        string // on standard error at the start
	LoseAt     uint64 // after so many samples
	Lose       uint64 // so many go missing, with their time
	SayLost    string // what it says then
	Stall      uint64 // after so many samples it goes silent
	OneByte    bool   // it writes one byte a burst
	Garbage    bool   // its samples and what it says are random
	CloseAt    uint64 // after so many samples it closes its output and lives on
	IgnoreTERM bool
	Fork       bool   // it starts another one that does nothing, and has its output open too
	Pids       string // file that it writes its process id to, and that of the other one
}

// programMark is the first argument of a test binary that is to be a Program.
const programMark = "radiotest-program"

// Words is the command line.
func (p Program) Words() []string {
	how, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return []string{os.Args[0], programMark, string(how)}
}

// Command is the command line as it stands in a source URL.
func (p Program) Command() string {
	words := p.Words()
	for i, w := range words {
		words[i] = "'" + strings.NewReplacer("%", "%25", "?", "%3F", "'", `'\''`).Replace(w) + "'"
	}
	return strings.Join(words, " ")
}

// ActAsProgram does not return where this process was started as a Program, or as an RTLProgram.
func ActAsProgram() {
	if len(os.Args) >= 3 && os.Args[1] == rtlProgramMark {
		os.Exit(actAsRTLTCP(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) < 3 || os.Args[1] != programMark {
		return
	}
	var p Program
	if err := json.Unmarshal([]byte(os.Args[2]), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(p.run())
}

func (p Program) run() int {
	if p.Width == 0 {
		p.Width = 4
	}
	if p.Burst == 0 {
		p.Burst = 20 * time.Millisecond
	}
	if p.IgnoreTERM {
		signal.Ignore(syscall.SIGTERM)
	}
	pids := fmt.Sprintln(os.Getpid())
	if p.Fork {
		other := exec.Command("sleep", "600") //nolint:noctx // whoever started this one has to end it
		other.Stdout = os.Stdout
		if err := other.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		pids += fmt.Sprintln(other.Process.Pid)
	}
	if p.Pids != "" {
		if err := os.WriteFile(p.Pids, []byte(pids), 0o600); err != nil {
			return 2
		}
	}
	fmt.Fprint(os.Stderr, p.Say)
	return p.write()
}

// write writes until there is a reason to end.
func (p Program) write() int {
	samples, recorded := p.numbers, []byte(nil)
	if p.File != "" {
		var err error
		if recorded, err = os.ReadFile(p.File); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		p.Samples = uint64(len(recorded) / p.Width)
		samples = func(from, to uint64) []byte { return recorded[from*uint64(p.Width) : to*uint64(p.Width)] }
	}
	burst := time.NewTicker(p.Burst)
	defer burst.Stop()
	began, lost, closed := time.Now(), false, false
	for done := uint64(0); p.Samples == 0 || done < p.Samples; {
		<-burst.C
		due := done + 4096
		if p.RateHz > 0 {
			due = uint64(time.Since(began).Seconds() * p.RateHz)
		}
		if p.Samples > 0 {
			due = min(due, p.Samples)
		}
		switch {
		case p.Stall > 0 && done >= p.Stall, closed:
			continue
		case p.Lose > 0 && !lost && done >= p.LoseAt:
			if due < done+p.Lose {
				continue
			}
			lost = true
			done += p.Lose
			fmt.Fprint(os.Stderr, p.SayLost)
			continue
		case p.CloseAt > 0 && done >= p.CloseAt:
			os.Stdout.Close()
			closed = true
			continue
		}
		for _, stop := range []uint64{p.Stall, p.LoseAt, p.CloseAt} {
			if done < stop {
				due = min(due, stop)
			}
		}
		if _, err := os.Stdout.Write(p.spoil(samples(done, due))); err != nil {
			return 1
		}
		done = due
	}
	_, _ = io.WriteString(os.Stdout, strings.Repeat("x", p.Odd))
	return p.Exit
}

// spoil makes of what is to be written what a bad program writes.
func (p Program) spoil(raw []byte) []byte {
	switch {
	case p.OneByte && len(raw) > 0:
		return raw[:1]
	case p.Garbage:
		for i := range raw {
			raw[i] = byte(rand.Uint32())
		}
		_, _ = os.Stderr.Write(raw[:min(len(raw), 100)])
	}
	return raw
}

func (p Program) numbers(from, to uint64) []byte {
	raw := make([]byte, (to-from)*uint64(p.Width))
	for n := from; n < to; n++ {
		var number [8]byte
		binary.LittleEndian.PutUint64(number[:], n)
		copy(raw[(n-from)*uint64(p.Width):][:p.Width], number[:])
	}
	return raw
}
