package radiotest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RTLProgram is the program rtl_tcp for a computer without a stick: the test binary, run again. The test's TestMain has to
// call ActAsProgram first of all.
type RTLProgram struct {
	Server RTLSettings

	Say        string        // on standard error at the start
	Exit       int           // it ends at once with this status, if it is not 0
	Wait       time.Duration // before it listens
	DieAfter   time.Duration // it ends after so long, with what it says then
	SayDying   string
	IgnoreTERM bool
	Log        string // file to which it appends its process id and its arguments
}

// rtlProgramMark is the first argument of a test binary that is to be an RTLProgram.
const rtlProgramMark = "radiotest-rtl_tcp"

// Install makes the program for a test, and returns its path. It is a script of the shell.
func (p RTLProgram) Install(t testing.TB) string {
	t.Helper()
	how, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s %s \"$@\"\n", quoted(os.Args[0]), rtlProgramMark, quoted(string(how)))
	path := filepath.Join(t.TempDir(), "rtl_tcp")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func actAsRTLTCP(how string, args []string) int {
	var p RTLProgram
	if err := json.Unmarshal([]byte(how), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	flags := flag.NewFlagSet("rtl_tcp", flag.ExitOnError)
	address := flags.String("a", "127.0.0.1", "")
	port := flags.String("p", "1234", "")
	flags.String("d", "0", "")
	flags.IntVar(&p.Server.Queue, "n", 500, "")
	if err := flags.Parse(args); err != nil {
		return 1
	}
	if p.IgnoreTERM {
		signal.Ignore(syscall.SIGTERM)
	}
	if p.Log != "" {
		log, err := os.OpenFile(p.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		fmt.Fprintln(log, os.Getpid(), strings.Join(args, " "))
		log.Close()
	}
	fmt.Fprint(os.Stderr, p.Say)
	if p.Exit != 0 {
		return p.Exit
	}
	<-time.After(p.Wait)
	server, err := ListenRTLTCP(context.Background(), *address+":"+*port, p.Server) //nolint:forbidigo // this is a program of its own
	if err != nil {
		fmt.Fprintf(os.Stderr, "rtl_tcp bind error: %v\n", err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "listening...")
	if p.DieAfter == 0 {
		select {}
	}
	<-time.After(p.DieAfter)
	fmt.Fprint(os.Stderr, p.SayDying)
	server.Close()
	return 1
}
