//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// onSmallDisk puts the state directory of a site on a disk of so many bytes.
func onSmallDisk(t *testing.T, here site, bytes int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a small disk: run this test as root")
	}
	if err := os.MkdirAll(here.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", here.state, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skip("a small disk cannot be made here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(here.state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A fifth of a disk may be less than a spool needs: the mend is named, not the part that found out.
func TestSpoolLimit_TinyDisk(t *testing.T) {
	here := newSite(t, "")
	onSmallDisk(t, here, 1<<20)
	cfg := here.load(t)
	cfg.Spool.Limit = 0
	f := checkSpool(cfg)[0]
	if want := "spool.limit: a fifth of the disk under spool.path, " + here.state + ", is 204.8 KiB, and a spool needs 256 KiB: "; f.Verdict != "fail" || !strings.HasPrefix(f.Detail, want) {
		t.Errorf("%+v\nwant %s", f, want)
	}
}

// fill writes until the disk takes no more.
func fill(t *testing.T, f *os.File) {
	t.Helper()
	for block := make([]byte, 4<<10); ; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func warningsOf(findings []finding, what string) string {
	var all []string
	for _, f := range findings {
		if f.What == what && f.Verdict == "warn" {
			all = append(all, f.Detail)
		}
	}
	return strings.Join(all, "\n")
}

// A disk that is smaller than the limit is told before it is full, and each thing that follows once it is.
func TestFullDisk_IsToldByTheCommands(t *testing.T) {
	here := newSite(t, "")
	onSmallDisk(t, here, 8<<20)
	flag := configFlag{here.config}

	findings, err := checkOf(t, CheckCmd{configFlag: flag})
	if got := warningsOf(findings, "disk"); err != nil || strings.Count(got, "\n") != 0 ||
		!strings.Contains(got, "has 8 MiB for the spool, and spool.limit is 16 MiB") || !strings.Contains(got, "spool.path") {
		t.Errorf("before the first run: %v, %+v", err, findings)
	}

	a, stop := here.start(t)
	here.hears(t)
	filler, err := os.Create(filepath.Join(here.state, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	eventually(t, "records are given up", func() error {
		fill(t, filler)
		text, err := output(t, SpoolStatCmd{configFlag: flag, JSON: true})
		var report spoolReport
		if err := errors.Join(err, json.Unmarshal([]byte(text), &report)); err != nil {
			return err
		}
		if d := report.Disk; d.ShedFull == 0 || !d.ReserveUsed || d.FreeBytes == nil || d.TakenBytes == 0 {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	fill(t, filler)
	wanted := []string{" were given up, and declared,", "the reserve is in use", "and spool.limit is 16 MiB"}
	findings, err = checkOf(t, CheckCmd{configFlag: flag})
	if err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(findings); !strings.Contains(got, " free on the disk, of the reserve that was let go when it was full") {
		t.Error(got)
	}
	texts := map[string]string{"check": warningsOf(findings, "disk")}
	for name, c := range map[string]command{"status": StatusCmd{configFlag: flag}, "spool stat": SpoolStatCmd{configFlag: flag}} {
		text, err := output(t, c)
		if err != nil || !strings.Contains(text, " free on the disk, of the reserve that was let go when it was full") {
			t.Errorf("%s: %v: %s", name, err, text)
		}
		texts[name] = text
	}
	for name, text := range texts {
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
	}

	eventually(t, "replies, which are never given up, wait in memory", func() error {
		fill(t, filler)
		if _, err := a.spool.Queue(t.Context(), spool.LaneReply, protocol.KindReply, make([]byte, 20_000)); err != nil {
			return err
		}
		findings, err := checkOf(t, CheckCmd{configFlag: flag})
		if got := warningsOf(findings, "disk"); err != nil || !strings.Contains(got, " takes nothing (commit ") || strings.Contains(got, " 0 records wait") {
			return errors.Join(err, errors.New(got))
		}
		return nil
	})
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
	stop()
	text, err := output(t, SpoolStatCmd{configFlag: flag})
	if err != nil || strings.Contains(text, "the reserve is in use") || strings.Contains(text, "reserve that was let go") {
		t.Errorf("of the closed file, whose disk has room again: %v: %s", err, text)
	}
}

// A limit that fits the disk and leaves no room for the file and the reserve is told, with one that fits.
func TestDiskWarnings_TheReserveMustFit(t *testing.T) {
	free := int64(8 << 20)
	for limit, want := range map[int64]string{
		5 << 20:  "",
		7 << 20:  "has 8 MiB for the spool, and spool.limit is 7 MiB, for which it may need 10.9 MiB: half as much again for the file, and 448 KiB for the reserve",
		64 << 20: "for which it may need 100 MiB: half as much again for the file, and 4 MiB for the reserve: it will be full first: free space there, lower spool.limit to 4 MiB, or name",
	} {
		d := diskStatus{Path: "/spool", FreeBytes: &free}
		if got := strings.Join(d.warnings(limit), "\n"); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("limit of %d bytes: %q\nwant %q", limit, got, want)
		}
	}
	free = 100 << 10
	d := diskStatus{Path: "/spool", FreeBytes: &free}
	if got := strings.Join(d.warnings(1<<20), "\n"); !strings.Contains(got, "lower spool.limit, or name") {
		t.Error("where no limit fits: ", got)
	}
}

// An agent that has no spool yet and no room for one names the key and the mend.
func TestOpenAgent_NoRoomForASpool(t *testing.T) {
	here := newSite(t, "")
	onSmallDisk(t, here, 2<<20)
	filler, err := os.Create(filepath.Join(here.state, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	fill(t, filler)
	_, err = OpenAgent(t.Context(), here.load(t), "test", slog.New(slog.DiscardHandler))
	if want := "spool.path: the disk under " + here.state + " is full: free space there, or name a directory on a larger disk"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
}
