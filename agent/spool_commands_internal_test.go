package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// stocked is a site with 200 measurements and as many pieces of a capture in its spool; the agent does not run.
func stocked(t *testing.T) site {
	t.Helper()
	here := newSite(t, "")
	s, err := spool.Open(here.state, spool.Options{Station: "torino", Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-10 * time.Minute)
	for n := range 200 {
		for _, r := range []*protocol.Record{
			{Body: &protocol.Record_Measurement{Measurement: &protocol.Measurement{Samples: proto.Uint64(uint64(n))}}},
			{Body: &protocol.Record_Iq{Iq: &protocol.IqChunk{CaptureId: proto.String("a"), Index: new(uint32(n)), Samples: proto.Uint32(1), Data: bytes.Repeat([]byte{1}, 100)}}},
		} {
			r.Station, r.Time = proto.String("torino"), proto.Int64(begin.Add(time.Duration(n)*time.Second).UnixNano())
			payload, err := protocol.Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Queue(t.Context(), spool.LaneOf(r.Kind()), r.Kind(), payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return here
}

func TestSpoolCommands_WithAndWithoutAnAgent(t *testing.T) {
	here := stocked(t)
	look := func(t *testing.T) {
		t.Helper()
		ask := func(args string, want int) string {
			t.Helper()
			code, text := captured(t, append(strings.Fields(args), "--config", here.config)...)
			if code != want {
				t.Errorf("%s ended with %d, want %d:\n%.2000s", args, code, want, text)
			}
			return text
		}
		var report spoolReport
		if err := json.Unmarshal([]byte(ask("spool stat --json", 0)), &report); err != nil {
			t.Fatal(err)
		}
		if report.Records < 400 || report.Lanes["iq"].Records != 200 || report.HoldsS <= 0 || report.LimitBytes != 16<<20 {
			t.Errorf("%+v", report)
		}
		if text := ask("spool stat", 0); !strings.Contains(text, "spool holds ") || !strings.Contains(text, " at this rate") {
			t.Error(text)
		}
		if text := ask("spool list --lane iq --limit 7", 0); strings.Count(text, "\n") != 7 || strings.Count(text, "unacked") != 7 {
			t.Error(text)
		}
		if text := ask("spool list --lane fast", exitUsage); !strings.Contains(text, "--lane fast: want one of reply gap") {
			t.Error(text)
		}
		if text := ask("spool verify", 0); !strings.Contains(text, " records, 0 damaged") {
			t.Error(text)
		}
		text := ask("spool export --lane iq", 0)
		n := 0
		for line := range strings.Lines(text) {
			var got struct {
				Spool, Station, State, Lane string
				Seq                         uint64
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if n++; got.Spool != report.Spool || got.Station != "torino" || got.State != "unacked" || got.Lane != "iq" || got.Seq != uint64(2*n) {
				t.Fatalf("line %d: %s", n, line)
			}
		}
		if n != 200 {
			t.Errorf("%d exported", n)
		}
	}
	t.Run("no agent", look)
	_, stop := here.start(t)
	t.Run("beside it", look)
	stop()

	segments, err := filepath.Glob(filepath.Join(here.state, "iq", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	iq, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	iq[len(iq)/2] ^= 1
	if err := os.WriteFile(segments[0], iq, 0o600); err != nil {
		t.Fatal(err)
	}
	code, text := captured(t, "spool", "verify", "--config", here.config)
	if code != exitFailed || !strings.Contains(text, " records, 1 damaged") {
		t.Errorf("ended with %d:\n%s", code, text)
	}
	iq[len(iq)/2] ^= 1
	if err := os.WriteFile(segments[0], iq, 0o600); err != nil {
		t.Fatal(err)
	}
	// Without its newest meta page bbolt reads the file as it was one commit before.
	file, err := os.OpenFile(filepath.Join(here.state, "spool.db"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(make([]byte, os.Getpagesize()), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	code, text = captured(t, "spool", "verify", "--config", here.config)
	if code != exitFailed || strings.Contains(text, " records, ") || !strings.Contains(text, "its beginning is not as it was written: `heimdall-agent run` puts it aside and saves what can be read") {
		t.Errorf("ended with %d:\n%s", code, text)
	}
}

// The help shows a line as it is printed.
func TestSpoolList_HelpShowsALine(t *testing.T) {
	code, text := captured(t, "spool", "list", "--help")
	if code != 0 || !strings.Contains(text, "\n    "+exampleLine+"\n") {
		t.Errorf("ended with %d:\n%s", code, text)
	}
	var l spoolLine
	if err := json.Unmarshal([]byte(exampleLine), &l); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(l); err != nil || string(again) != exampleLine {
		t.Errorf("%v\nprinted %s\nin help %s", err, again, exampleLine)
	}
}

// A spool that another program holds, without a socket to ask: it is told who has it.
func TestSpoolCommands_SayWhoHasIt(t *testing.T) {
	here := newSite(t, "")
	s, err := spool.Open(here.state, spool.Options{Station: "torino"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, command := range []string{"stat", "list", "verify", "export"} {
		code, text := captured(t, "spool", command, "--config", here.config)
		if code != exitFailed || !strings.Contains(text, fmt.Sprint("in use by process ", os.Getpid())) {
			t.Errorf("%s ended with %d:\n%s", command, code, text)
		}
	}
	if _, err := exported(spoolLine{Error: "torn"}); err == nil {
		t.Error("a damaged record was exported")
	}
}

func TestSpoolStat_BeforeTheFirstRun(t *testing.T) {
	t.Parallel()
	here := newSite(t, "")
	_, err := output(t, SpoolStatCmd{configFlag: configFlag{here.config}})
	if err == nil || !strings.Contains(err.Error(), "nothing was stored yet") {
		t.Errorf("got %v", err)
	}
}
