package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// club is a collector with TLS, its embedded broker, and what its commands say.
type club struct {
	t      *testing.T
	dir    string // of the configuration and of the data
	config string
	url    string
	proc   *program
}

func newClub(t *testing.T) *club {
	t.Helper()
	listen := servers.FreeAddress(t)
	c := &club{t: t, dir: t.TempDir(), url: "https://" + listen}
	c.config = filepath.Join(c.dir, "collector.yaml")
	text := fmt.Sprintf("data: %q\nmqtt: {accounts: embedded, embedded: {listen: \"127.0.0.1:0\", tls: true}}\nhttp: {listen: %q, tls: {}}\nlog: {level: debug}\n", filepath.Join(c.dir, "data"), listen)
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.proc = start(t, "heimdall-collector", "run", "--config", c.config)
	eventually(t, time.Minute, "the collector is ready", func() error {
		_, errOut, code := c.command("station", "list")
		if code != 0 {
			return fmt.Errorf("%s", errOut)
		}
		return nil
	})
	return c
}

// command runs one of the collector's against it.
func (c *club) command(args ...string) (out, errOut string, code int) {
	c.t.Helper()
	cmd := command(c.t, "heimdall-collector", args...)
	cmd.Env = append(os.Environ(), "HEIMDALL_URL="+c.url, "HEIMDALL_CA="+filepath.Join(c.dir, "data", "ca", "ca.pem"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func (c *club) must(args ...string) string {
	c.t.Helper()
	out, errOut, code := c.command(args...)
	if code != 0 {
		c.t.Fatalf("%v: exit %d: %s%s", args, code, out, errOut)
	}
	return strings.TrimSpace(out)
}

// enrolling is an agent's files.
type enrolling struct {
	config, state string
}

func (c *club) station(id string) enrolling {
	c.t.Helper()
	s := enrolling{state: filepath.Join(c.t.TempDir(), "state")}
	s.config = writeFile(c.t, "agent.yaml", fmt.Sprintf("# mine\nstation: {id: %s}\nreceivers:\n  - {id: r0, source: %q}\nspool: {path: %q}\nmetrics: {listen: \"\"}\nlog: {level: debug}\n",
		id, simulated(c.t, "north"), s.state))
	return s
}

// enrol gives the code by standard input.
func (s enrolling) enrol(t *testing.T, code string) (said string, exit int) {
	t.Helper()
	cmd := command(t, "heimdall-agent", "enroll", "--config", s.config, "-")
	cmd.Stdin = strings.NewReader(code + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// stationOf is what the collector says of a station.
func (c *club) stationOf(id string) (s protocol.Station, err error) {
	out, errOut, code := c.command("station", "list", "--json")
	if code != 0 {
		return s, fmt.Errorf("%s", errOut)
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	for decoder.More() {
		if err := decoder.Decode(&s); err != nil {
			return s, err
		}
		if s.ID == id {
			return s, nil
		}
	}
	return protocol.Station{}, fmt.Errorf("no %s in %s", id, out)
}

func (c *club) waitStatus(id, status string) {
	c.t.Helper()
	eventually(c.t, time.Minute, id+" is "+status, func() error {
		s, err := c.stationOf(id)
		if err == nil && s.Status != status {
			err = fmt.Errorf("it is %q", s.Status)
		}
		return err
	})
}

func (c *club) waitState(id, state string) {
	c.t.Helper()
	eventually(c.t, time.Minute, id+" is "+state, func() error {
		s, err := c.stationOf(id)
		if err == nil && s.State != state {
			err = fmt.Errorf("it is %q", s.State)
		}
		return err
	})
}

// With the real programs: a code, an enrolment, records that are acknowledged, and the end of it. No secret is left anywhere.
func TestEnrol_FromCodeToRevocation(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	s := c.station("torino")
	code := c.must("station", "code", "torino")
	if said, exit := c.station("genova").enrol(t, code); exit != 1 || !strings.Contains(said, "the code is for station torino") {
		t.Errorf("as another station: exit %d: %s", exit, said)
	}
	parsed, err := protocol.ParseEnrolmentCode(code)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Authority[0] ^= 1
	if said, exit := s.enrol(t, parsed.Reveal()); exit != 1 || !strings.Contains(said, "Nothing was sent") {
		t.Errorf("with another authority: exit %d: %s", exit, said)
	}
	said, exit := s.enrol(t, code)
	if exit != 0 || !strings.Contains(said, "station torino is enrolled until") {
		t.Fatalf("exit %d: %s", exit, said)
	}
	again, exit := s.enrol(t, code)
	if exit != 1 || !strings.Contains(again, "has been used already") {
		t.Errorf("a second time: exit %d: %s", exit, again)
	}
	if text := string(readFile(t, s.config)); !strings.HasPrefix(text, "# mine\nstation: {id: torino}\n") {
		t.Errorf("the configuration lost what its owner wrote:\n%s", text)
	}

	agent := start(t, "heimdall-agent", "run", "--config", s.config)
	c.waitStatus("torino", "online")
	eventually(t, time.Minute, "a record is acknowledged", func() error {
		out, errOut, _ := run(t, "heimdall-agent", "status", "--json", "--config", s.config)
		var st struct {
			Broker struct{ Acknowledged uint64 }
		}
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			return fmt.Errorf("%w: %s%s", err, out, errOut)
		}
		if st.Broker.Acknowledged == 0 {
			return fmt.Errorf("none yet: %s", out)
		}
		return nil
	})
	began := time.Now()
	c.must("station", "revoke", "torino")
	c.waitStatus("torino", "offline")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the session went on for %v", took)
	}
	c.waitState("torino", protocol.StateRevoked)
	eventually(t, time.Minute, "the agent's log says what its owner can do", func() error {
		if text := readFile(t, agent.log); !bytes.Contains(text, []byte("then `heimdall-agent enroll -`")) {
			return fmt.Errorf("it says\n%s", text)
		}
		return nil
	})
	for station, want := range map[string]string{"torino": "`heimdall-collector station code torino`", "nosuch": "no station of this id has enrolled"} {
		if out, errOut, exit := c.command("station", "rotate", station); exit == 0 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("rotate %s, which is not enrolled: exit %d: %s%s", station, exit, out, errOut)
		}
	}
	for _, end := range []string{"revoke", "remove"} {
		if out, errOut, exit := c.command("station", end, "nosuch"); exit != 1 || out != "" || !strings.Contains(errOut, "no such station: `heimdall-collector station list`") {
			t.Errorf("%s a station that nobody knows: exit %d: %s%s", end, exit, out, errOut)
		}
	}
	rotated := c.must("station", "code", "torino")
	if said, exit := s.enrol(t, rotated); exit != 0 {
		t.Errorf("with a new code: exit %d: %s", exit, said)
	}
	c.waitStatus("torino", "online") // the running agent reads the new certificate
	c.must("station", "remove", "torino")
	c.waitStatus("torino", "offline")
	c.waitState("torino", protocol.StateRemoved)
	agent.stop(syscall.SIGTERM)

	for what, text := range map[string][]byte{"agent's log": readFile(t, agent.log), "collector's log": readFile(t, c.proc.log), "what enroll says": []byte(said + again)} {
		for _, code := range []string{code, rotated} {
			if secret := secretOf(code); bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s shows the code:\n%s", what, text)
			}
		}
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s shows a key", what)
		}
	}
	noSecretIn(t, filepath.Join(c.dir, "data"), secretOf(code), secretOf(rotated))
	noSecretIn(t, s.state, secretOf(code), secretOf(rotated))
}

// secretOf is the part of a code that nobody else may learn.
func secretOf(code string) string {
	parts := strings.Split(code, ".")
	return parts[len(parts)-2]
}

// noSecretIn looks into every file of a directory.
func noSecretIn(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s holds the secret of a code", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
