package e2e_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

// A code goes from the collector to the station, and is nowhere else: not in the arguments or the environment of a process, in a log, in
// metrics, in what support says, in an answer of the API, in a file, nor in what the programs say when they crash.
func TestEnrol_LeavesNoTraceOfTheCode(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	s := c.station("torino")
	metrics := servers.FreeAddress(t)
	text := bytes.Replace(readFile(t, s.config), []byte(`metrics: {listen: ""}`), fmt.Appendf(nil, "metrics: {listen: %q}", metrics), 1)
	if err := os.WriteFile(s.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code := c.must("station", "code", "torino")
	search := &traces{t: t, code: code}

	search.in("a crash of enroll", "SIGABRT", crashWhileEnrolling(t, s, code, search))
	said, exit := s.enrol(t, code)
	if exit != 0 {
		t.Fatalf("exit %d: %s", exit, said)
	}
	search.in("what enroll says", "is enrolled", []byte(said))
	agent := start(t, "heimdall-agent", "run", "--config", s.config)
	c.waitStatus("torino", "online")

	search.process("the agent", agent.cmd.Process.Pid)
	search.process("the collector", c.proc.cmd.Process.Pid)
	search.in("the agent's metrics", "heimdall_agent_", c.fetch("http://"+metrics+"/metrics"))
	for path, word := range map[string]string{"/metrics": "heimdall_collector_", "/api/v1/audit": `"code"`, "/api/v1/stations": "torino", "/api/v1/accounts": "torino"} {
		search.in(path, word, c.fetch(c.url+path))
	}
	search.in("the agent's support", "heimdall-agent", []byte(mustRun(t, "heimdall-agent", "support", "--config", s.config)))
	search.in("the collector's support", "heimdall-collector", []byte(c.must("support", "--config", c.config)))
	agent.stop(syscall.SIGABRT)
	c.proc.stop(syscall.SIGABRT)
	search.in("the agent's log and crash", "SIGABRT", readFile(t, agent.log))
	search.in("the collector's log and crash", "SIGABRT", readFile(t, c.proc.log))
	for _, dir := range []string{c.dir, filepath.Dir(s.config), s.state} {
		noSecretIn(t, dir, secretOf(code))
	}
}

// crashWhileEnrolling has enroll wait for a collector that says nothing, and gives what it says when it is ended by a signal.
func crashWhileEnrolling(t *testing.T, s enrolling, code string, search *traces) []byte {
	t.Helper()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	called := make(chan net.Conn, 1)
	go func() {
		if conn, err := silent.Accept(); err == nil {
			called <- conn
		}
	}()
	parsed, err := protocol.ParseEnrolmentCode(code)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Host = silent.Addr().String()
	cmd := command(t, "heimdall-agent", "enroll", "--config", s.config, "-")
	cmd.Stdin = strings.NewReader(parsed.Reveal() + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := servers.StartChild(cmd); err != nil {
		t.Fatal(err)
	}
	select {
	case conn := <-called:
		defer conn.Close()
	case <-time.After(time.Minute):
		t.Error("enroll calls nobody")
	}
	search.process("enroll", cmd.Process.Pid)
	cmd.Process.Signal(syscall.SIGABRT)
	cmd.Wait()
	return out.Bytes()
}

// traces looks for the secret of a code, in the forms that it may take.
type traces struct {
	t    *testing.T
	code string
}

// in looks into what must have a word, so that it is not the wrong place.
func (s *traces) in(place, word string, text []byte) {
	s.t.Helper()
	if !bytes.Contains(text, []byte(word)) {
		s.t.Errorf("%s: there is no %q:\n%s", place, word, text)
	}
	parsed, err := protocol.ParseEnrolmentCode(s.code)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, secret := range []string{secretOf(s.code), hex.EncodeToString(parsed.Secret[:]), string(parsed.Secret[:])} {
		if bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(secret))) {
			s.t.Errorf("%s shows the code:\n%q", place, text)
		}
	}
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		s.t.Errorf("%s shows a key:\n%s", place, text)
	}
}

// process looks into the arguments and the environment of a process.
func (s *traces) process(name string, pid int) {
	s.t.Helper()
	for file, word := range map[string]string{"cmdline": "--config", "environ": "PATH="} {
		s.in(name+"'s "+file, word, readFile(s.t, fmt.Sprintf("/proc/%d/%s", pid, file)))
	}
}

// fetch gets a page, of the collector by its authority.
func (c *club) fetch(url string) []byte {
	c.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(c.t, filepath.Join(c.dir, "data", "ca", "ca.pem")))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get(url)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		c.t.Errorf("GET %s: %s, %v: %s", url, answer.Status, err, text)
	}
	return text
}
