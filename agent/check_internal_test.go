package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// checkOf runs a check and gives its findings.
func checkOf(t *testing.T, c CheckCmd) ([]finding, error) {
	t.Helper()
	c.JSON = true
	text, err := output(t, c)
	return linesOf[finding](t, text), err
}

func verdictOf(findings []finding, what string) string {
	for _, f := range findings {
		if f.What == what {
			return f.Verdict
		}
	}
	return ""
}

func TestCheck_WithoutAnAgent(t *testing.T) {
	t.Parallel()
	here := newSite(t, "")
	for _, strict := range []bool{false, true} {
		findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}, Strict: strict})
		if errors.Is(err, errReported) != strict { // no broker is configured, which is a warning
			t.Errorf("strict %v: ended with %v", strict, err)
		}
		for what, want := range map[string]string{"config": "ok", "receiver": "ok", "spool": "ok", "broker": "warn", "control": "ok", "disk": ""} {
			if got := verdictOf(findings, what); got != want {
				t.Errorf("%s: got %q, want %q in %+v", what, got, want, findings)
			}
		}
	}
}

func TestCheck_NamesWhatFails(t *testing.T) {
	t.Parallel()
	here := newSite(t, "mqtt: {url: \"mqtt://127.0.0.1:1\"}\n")
	if err := os.Remove(filepath.Join(filepath.Dir(here.config), "sky.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, here.state, "a file where the directory belongs")
	text, err := output(t, CheckCmd{configFlag: configFlag{here.config}})
	if !errors.Is(err, errReported) {
		t.Errorf("ended with %v, want %v", err, errReported)
	}
	for _, want := range []string{"1 receiver\n", "fail  source     r0 scene ", "fail  spool      spool.path", "fail  broker     mqtt://127.0.0.1:1: connect: connection refused: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestCheck_NoCertificateIsAFaultOfTheConfig(t *testing.T) {
	t.Parallel()
	junk := filepath.Join(t.TempDir(), "junk.pem")
	write(t, junk, "junk")
	here := newSite(t, "mqtt: {url: \"mqtts://127.0.0.1:1\", ca: \""+junk+"\"}\n")
	for _, c := range []command{CheckCmd{configFlag: configFlag{here.config}}, RunCmd{configFlag{here.config}}} {
		if _, err := output(t, c); !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "no certificate in it") {
			t.Errorf("%T: got %v", c, err)
		}
	}
}

func TestCheck_DamagedSpool(t *testing.T) {
	here := newSite(t, "")
	cfg := here.load(t)
	if f := checkSpool(cfg)[0]; f.Verdict != "ok" || !strings.Contains(f.Detail, "will be made, up to 16 MiB") {
		t.Errorf("no spool yet: %+v", f)
	}
	if _, err := os.Stat(here.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the check made the directory: %v", err)
	}
	a := here.open(t)
	if f := checkSpool(cfg)[0]; f.Verdict != "fail" || !strings.Contains(f.Detail, "in use") {
		t.Errorf("spool of another process: %+v", f)
	}
	a.Close()
	if f := checkSpool(cfg)[0]; f.Verdict != "ok" || !strings.Contains(f.Detail, "of 16 MiB, 0 records wait") {
		t.Errorf("a sound spool: %+v", f)
	}
	write(t, filepath.Join(here.state, "spool.db"), strings.Repeat("not bbolt ", 1000))
	if f := checkSpool(cfg)[0]; f.Verdict != "fail" {
		t.Errorf("a damaged spool: %+v", f)
	}
}

// A station that was renamed with records waiting would have them refused: it is told before.
func TestSpoolOfAnotherStation(t *testing.T) {
	here := newSite(t, "")
	s, err := spool.Open(here.state, spool.Options{Station: "old-name"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Queue(t.Context(), spool.LaneReply, protocol.KindReply, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"check": exitFailed, "run": exitUsage} {
		code, text := captured(t, command, "--config", here.config)
		if code != want || !strings.Contains(text, "station.id: torino: ") || !strings.Contains(text, "1 records of the station old-name") {
			t.Errorf("%s ended with %d:\n%s", command, code, text)
		}
	}
}

func TestCheck_OfARunningAgentTakesItsWord(t *testing.T) {
	here := newSite(t, "control: {allow: [capture]}")
	here.start(t)
	here.hears(t)
	began := time.Now()
	findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if err != nil || verdictOf(findings, "receiver") != "ok" || verdictOf(findings, "spool") != "ok" || verdictOf(findings, "control") != "" {
		t.Errorf("%+v, %v", findings, err)
	}
	if took := time.Since(began); took > listenFor {
		t.Errorf("it took %v: the receiver was opened a second time", took)
	}
}

func TestCheck_RunningAgentWithoutReceiver(t *testing.T) {
	here := newSite(t, "")
	if err := os.Remove(filepath.Join(filepath.Dir(here.config), "sky.yaml")); err != nil {
		t.Fatal(err)
	}
	a, _ := here.start(t)
	eventually(t, "the station is degraded", func() error {
		if is := a.condition(); is.word != "degraded" {
			return errors.New(is.word)
		}
		return nil
	})
	findings, err := checkOf(t, CheckCmd{configFlag: configFlag{here.config}})
	if !errors.Is(err, errReported) || verdictOf(findings, "receiver") != "fail" {
		t.Errorf("%+v, %v", findings, err)
	}
	text, err := output(t, StatusCmd{configFlag: configFlag{here.config}})
	if err != nil || !strings.Contains(text, "torino degraded") || !strings.Contains(text, "receiver r0: not connected") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestCheckClock(t *testing.T) {
	unset := clock.New(clock.Config{Wall: func() time.Time { return time.Unix(60, 0) }})
	if f := checkClock(unset); f.Verdict != "fail" || !strings.Contains(f.Detail, "1970-01-01T00:01:00") {
		t.Errorf("a clock that was never set: %+v", f)
	}
	if f := checkClock(clock.New(clock.Config{})); f.Verdict == "fail" {
		t.Errorf("this machine's clock: %+v", f)
	}
}

func TestBrokerFault_OfABrokerThatSaysNothing(t *testing.T) {
	over, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if got := brokerFault(over, errors.New("connect: context canceled")); got != "no answer within 20 s" {
		t.Errorf("got %q", got)
	}
}
