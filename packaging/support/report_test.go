package support_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/packaging/support"
)

func TestWrite_GoesOnAfterPartsThatFailOrHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var secrets support.Secrets
		secrets.Add("c4nary-1")
		release := make(chan struct{})
		began := time.Now()
		err := support.Write(t.Context(), &out, &secrets, []support.Part{
			{Title: "fails", Write: func(_ context.Context, w io.Writer) error {
				fmt.Fprintln(w, "half of it")
				return errors.New("c4nary-1 is wrong")
			}},
			{Title: "heeds", Limit: time.Minute, Write: func(ctx context.Context, w io.Writer) error {
				fmt.Fprintln(w, "so far")
				<-ctx.Done()
				return ctx.Err()
			}},
			{Title: "hangs", Write: func(context.Context, io.Writer) error {
				<-release
				return nil
			}},
			{Title: "last", Write: func(_ context.Context, w io.Writer) error {
				fmt.Fprint(w, "the end")
				return nil
			}},
		})
		close(release)
		const want = "\n== fails\nhalf of it\nerror: *** is wrong\n\n== heeds\nso far\nerror: context deadline exceeded\n" +
			"\n== hangs\nerror: no answer within 5s\n\n== last\nthe end\n"
		if err != nil || out.String() != want {
			t.Errorf("%v, got\n%s\nwant\n%s", err, out.String(), want)
		}
		if took := time.Since(began); took != time.Minute+6*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestWrite_EndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := support.Write(ctx, io.Discard, new(support.Secrets), []support.Part{
		{Title: "first", Write: func(context.Context, io.Writer) error { cancel(); return nil }},
		{Title: "second", Write: func(context.Context, io.Writer) error { t.Error("went on"); return nil }},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestCreate_KeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "support.txt")
	var said bytes.Buffer
	w, done, err := support.Create(path, &said)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "text")
	if err := done(); err != nil || !strings.Contains(said.String(), path) {
		t.Errorf("%v, said %q", err, said.String())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 || info.Size() != 4 {
		t.Errorf("%v, %v", info, err)
	}
	if _, _, err := support.Create(t.TempDir(), &said); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("a directory: %v", err)
	}
}

// The commands of the system are those that PATH has.
func TestComputer_TellsOfServiceAndLog(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	var out bytes.Buffer
	if err := errors.Join(support.Service(t.Context(), &out, "heimdall-agent"), support.Computer(&out), support.Limits(&out)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"no systemd here\n", "cores "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	script := "#!/bin/sh\necho \"$0 $*\"\nexit 3\n"
	for _, name := range []string{"systemctl", "journalctl", "tail"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out.Reset()
	if err := support.Service(t.Context(), &out, "heimdall-agent"); err == nil || !strings.Contains(err.Error(), "systemctl: exit status 3") {
		t.Errorf("a command that fails: %v", err)
	}
	if err := support.Journal(t.Context(), &out, "heimdall-agent"); err == nil || !strings.Contains(out.String(), "heimdall-agent") || !strings.Contains(out.String(), "50") {
		t.Errorf("%v, got %s", err, out.String())
	}
}
