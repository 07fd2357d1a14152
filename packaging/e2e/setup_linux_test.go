package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// Ctrl-C at a question ends the program at once, and the terminal shows again what is typed.
func TestQuestions_CtrlC(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		program string
		args    []string
		talk    func(x *terminal)
	}{
		"setup, a line": {"heimdall-agent", []string{"setup", "--source", simulated(t, "north")}, func(x *terminal) {
			x.waitFor("2/5 Place")
		}},
		"setup, a code": {"heimdall-agent", []string{"setup", "--source", simulated(t, "north")}, func(x *terminal) {
			x.answer("2/5 Place", "")
			x.answer("3/5 Name", "torino")
			x.answer("4/5 Send to", "c")
			x.waitFor("code: ")
		}},
		"setup, the code of --join": {"heimdall-agent", []string{"setup", "--join", "-"}, func(x *terminal) {
			x.waitFor("code: ")
		}},
		"enroll, the code": {"heimdall-agent", []string{"enroll", "-"}, func(x *terminal) {
			x.waitFor("code: ")
		}},
		"init, a line": {"heimdall-collector", []string{"init"}, func(x *terminal) {
			x.waitFor("database, ")
		}},
		"init, a secret": {"heimdall-collector", []string{"init", "--store", "sqlite:own.db", "--mqtt", servers.Mosquitto(t).URL, "--archive", "s3://bucket?endpoint=http://127.0.0.1:1"}, func(x *terminal) {
			x.answer("access key", "k")
			x.waitFor("secret key: ")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := filepath.Join(dir, "new.yaml")
			cmd := command(t, tc.program, append(tc.args, "--config", config)...)
			cmd.Dir = dir
			x := atTerminal(t, cmd)
			tc.talk(x)
			began := time.Now()
			x.press("\x03")
			if code := x.end(); code != 1 {
				t.Errorf("it ends with %d", code)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it ends after %v", took)
			}
			lines := strings.Split(strings.TrimSpace(x.screen()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "stopped: no configuration was written") {
				t.Errorf("it does not say what became of it:\n%s", x.screen())
			}
			if mode, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS); err != nil || mode.Lflag&unix.ECHO == 0 {
				t.Errorf("the terminal does not show what is typed: %v", err)
			}
			if _, err := os.Stat(config); !os.IsNotExist(err) {
				t.Errorf("the configuration: %v", err)
			}
		})
	}
}

// A configuration that is not there is named, with the command that writes it.
func TestRun_MissingConfiguration(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	for program, writes := range map[string]string{"heimdall-agent": "setup", "heimdall-collector": "init"} {
		_, errOut, code := run(t, program, "run", "--config", missing)
		want := missing + " is not there: `" + program + " " + writes + " --config " + missing + "`"
		if code != 2 || !strings.HasPrefix(errOut, want) || !strings.Contains(errOut, "/etc/heimdall/") {
			t.Errorf("%s: exit %d: %swant %s", program, code, errOut, want)
		}
	}
}

// The owner of a KiwiSDR has an agent on another computer: it asks the receiver, sets itself up with a code and without a question,
// and runs.
func TestTranscript_KiwiOwner(t *testing.T) {
	t.Parallel()
	kiwi := &radiotest.Kiwi{Status: map[string]string{
		"name": "Hut", "sw_version": "KiwiSDR_v1.843", "users": "2", "users_max": "8", "gps": "(47.1702, 8.5310)", "fixes_min": "30",
	}}
	source := "kiwi://" + kiwi.Start(t)
	follows(t, mustRun(t, "heimdall-agent", "probe", source),
		`firmware +KiwiSDR_v1.843`, `place +\(47.1702, 8.5310\)`, `users +2 of 8`, `device +KiwiSDR 127.0.0.1:\d+, firmware 1.843`,
		`tuning +10 MHz, 12.00\d+ ksps, .*`, `range +6.\d+ kHz to 29.9\d+ MHz, .*`,
		`time +gnss ±\d+ns: good for TDoA, beside the receiver's own delay`, `heard +\d+ samples, 0 lost, rate [+-]\d+.\d ppm`)

	c := newClub(t)
	code := c.must("station", "code", "hut")
	s := newSetup(t)
	x := atTerminal(t, s.agent("setup", "--source", source, "--join", "-", "--yes"))
	x.answer("code: ", code)
	if exit := x.end(); exit != 0 {
		t.Fatalf("setup ends with %d:\n%s", exit, x.screen())
	}
	follows(t, x.screen(),
		`1/5 Receiver +kiwi://\S+`, `KiwiSDR \S+, firmware 1.843: 12.00\d+ ksps for 3s, 0 samples lost, rate [+-]\d+.\d ppm`,
		`2/5 Place .* \[47.1702, 8.5310\] 47.1702, 8.5310`, `shown to others as: .* \[1\] 1`,
		`4/5 Send to +127.0.0.1:\d+, certificate ..:..:\.\.:..`, `enrolled as hut; its key and certificate are in /.*`,
		`5/5 May the network order recordings of IQ here\? \[y/N\] n`,
		`Wrote \S+/agent.yaml. It listens to 12.00\d+ ksps around 10 MHz; change receivers\[\].plan.`,
		`Spool holds about \d+ (days|hours) of this plan. History reaches back 2\d min.`,
		`This plan sends about \d+ MB a day, and detections besides.`,
		`Start it: heimdall-agent run --config \S+`)
	if strings.Contains(x.screen(), "3/5") || strings.Contains(x.screen(), secretOf(code)) {
		t.Errorf("it asks for the name, or shows the code:\n%s", x.screen())
	}

	running := atTerminal(t, s.agent("run"))
	running.waitFor("first record acknowledged")
	c.waitStatus("hut", "online")
	s.holdsWhatItSaid(t, x.screen())
	running.press("\x03")
	if exit := running.end(); exit != 0 {
		t.Errorf("run ends with %d:\n%s", exit, running.screen())
	}
}

// Whoever has a code in a file answers the other questions; a code that is not the collector's changes nothing.
func TestSetup_Join(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	code := c.must("station", "code", "torino")
	wrong, err := protocol.ParseEnrolmentCode(code)
	if err != nil {
		t.Fatal(err)
	}
	wrong.Authority[0] ^= 1
	s := newSetup(t)
	join := func(code string) (said string, exit int) {
		x := atTerminal(t, s.agent("setup", "--source", simulated(t, "north"), "--join", writeFile(t, "code", code+"\n")))
		x.answer("2/5 Place", "JN35ua")
		x.answer("shown to others as", "e")
		if code != wrong.Reveal() {
			x.answer("5/5 May the network order recordings", "y")
		}
		exit = x.end()
		return x.screen(), exit
	}
	if said, exit := join(wrong.Reveal()); exit != 1 || !strings.Contains(said, "Nothing was sent") {
		t.Errorf("with another authority: exit %d:\n%s", exit, said)
	}
	if _, err := os.Stat(s.config); !os.IsNotExist(err) {
		t.Errorf("after it the configuration: %v", err)
	}
	x := atTerminal(t, s.agent("setup", "--source", simulated(t, "north"), "--join", writeFile(t, "code", code+"\n")))
	x.answer("2/5 Place", "")
	x.waitFor("5/5 May the network")
	x.press("\x03")
	x.end()
	if said := "stopped: no configuration was written; the code is used up: `heimdall-collector station rotate torino` makes another one"; !strings.Contains(x.screen(), said) {
		t.Errorf("no %q in\n%s", said, x.screen())
	}
	code = c.must("station", "rotate", "torino")
	said, exit := join(code)
	if exit != 0 || !strings.Contains(said, "enrolled as torino; its key and certificate are in /") || strings.Contains(said, "3/5") || strings.Contains(said, secretOf(code)) {
		t.Fatalf("exit %d:\n%s", exit, said)
	}
	noSecretIn(t, s.dir, secretOf(code))
	text := string(readFile(t, s.config))
	for _, want := range []string{"id: torino", "publish: exact", "url: \"mqtts://", "allow: [capture]"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	running := atTerminal(t, s.agent("run"))
	running.waitFor("first record acknowledged")
	c.waitStatus("torino", "online")
	running.press("\x03")
	if exit := running.end(); exit != 0 {
		t.Errorf("run ends with %d:\n%s", exit, running.screen())
	}
}

// setup is a computer on which nothing is set up yet.
type setup struct {
	t                  *testing.T
	dir, config, state string
}

func newSetup(t *testing.T) setup {
	t.Helper()
	dir := t.TempDir()
	return setup{t: t, dir: dir, config: filepath.Join(dir, "agent.yaml"), state: filepath.Join(dir, "state")}
}

// agent is a command of the agent's, with its state below the directory as for a service.
func (s setup) agent(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := command(s.t, "heimdall-agent", append(args, "--config", s.config)...)
	cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+s.state)
	return cmd
}

var expected = regexp.MustCompile(`Spool holds about (\d+) days .*\n.*sends about (\d+) MB a day`)

// holdsWhatItSaid holds what setup expected of the spool and of the traffic against the records of the running agent.
func (s setup) holdsWhatItSaid(t *testing.T, said string) {
	t.Helper()
	words := expected.FindStringSubmatch(said)
	if words == nil {
		t.Fatalf("no estimate in\n%s", said)
	}
	days, _ := strconv.ParseFloat(words[1], 64)
	sent, _ := strconv.ParseFloat(words[2], 64)
	size := map[protocol.Kind]float64{}
	eventually(t, time.Minute, "each kind of record is there", func() error {
		out, err := s.agent("spool", "list", "--json").Output()
		for decoder := json.NewDecoder(bytes.NewReader(out)); err == nil && decoder.More(); {
			var r struct {
				Kind  protocol.Kind
				Bytes float64
			}
			err = decoder.Decode(&r)
			size[r.Kind] = r.Bytes
		}
		if size[protocol.KindSpectrum] == 0 || size[protocol.KindMeasurement] == 0 || size[protocol.KindHealth] == 0 {
			return fmt.Errorf("there are %v, %w", size, err)
		}
		return nil
	})
	var stat struct {
		Limit float64 `json:"limit_bytes"`
	}
	if out, err := s.agent("spool", "stat", "--json").Output(); err != nil || json.Unmarshal(out, &stat) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	aDay := 86400*size[protocol.KindMeasurement] + 8640*size[protocol.KindSpectrum] + 1440*size[protocol.KindHealth]
	if want := stat.Limit / aDay; math.Abs(days-want) > 0.1*want+0.5 {
		t.Errorf("it said %g days; with records of %v bytes the spool holds %.1f", days, size, want)
	}
	// What is sent lacks what the spool adds to each record, some 60 bytes, and has the state.
	if want := (aDay - 60*(86400+8640+1440)) / 1e6; math.Abs(sent-want) > 0.2*want {
		t.Errorf("it said %g MB a day; the records are about %.1f", sent, want)
	}
}
