//go:build linux

package spool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk is a folder on a disk of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a small disk: run this test as root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("a small disk cannot be made here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillDisk writes a file until the disk takes no more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that others fill, all of it or all but the reserve, and make room on again: a line says that it is full, sums follow once a
// minute, and seconds after there is room nothing is given up any more and a line says so.
func TestRun_RoomComesBack(t *testing.T) {
	for name, again := range map[string]bool{"filled once": false, "kept full": true} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, "8m")
			filler := filepath.Join(dir, "filler")
			var said bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				s, err := Open(dir, Options{Station: "torino", LimitBytes: 64 << 20, Log: slog.New(slog.NewTextHandler(&said, nil))})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				run := func(seconds int) {
					for range seconds {
						queueSome(t, s, LaneMeasurement, 3, 1000)
						time.Sleep(time.Second)
					}
				}
				run(10)
				fillDisk(t, filler)
				for range 300 {
					run(1)
					if again {
						fillDisk(t, filler)
					}
				}
				if st := s.Stats(); st.ShedFull == 0 || !st.ReserveUsed {
					t.Errorf("full: %+v", st)
				}
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
				run(5)
				before := s.Stats()
				if before.ReserveUsed || before.Fault != nil {
					t.Errorf("seconds after there is room: %+v", before)
				}
				run(60)
				if after := s.Stats(); after.Shed != before.Shed || after.Records < before.Records+100 {
					t.Errorf("with room: %+v\nbefore: %+v", after, before)
				}
				account(t, s)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				closed(t, s)
			})
			log := said.String()
			for text, most := range map[string]int{"is full: records are given up": 1, "has room again": 1, "were given up for want of room": 7} {
				if n := strings.Count(log, text); n < 1 || n > most {
					t.Errorf("%d times %q, want 1 to %d:\n%.3000s", n, text, most, log)
				}
			}
			if !strings.Contains(log, "path="+dir) {
				t.Errorf("no path in\n%.2000s", log)
			}
		})
	}
}

// A full disk that is full again and again says so once a minute.
func TestRun_FullAndNotInTurns(t *testing.T) {
	dir := smallDisk(t, "8m")
	filler := filepath.Join(dir, "filler")
	var said bytes.Buffer
	s, err := Open(dir, Options{Station: "torino", LimitBytes: 64 << 20, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	queueSome(t, s, LaneMeasurement, 10, 1000)
	flushed(t, s)
	for range 5 {
		fillDisk(t, filler)
		for range 100 {
			queueSome(t, s, LaneMeasurement, 10, 1000)
			flushed(t, s)
		}
		if s.room.fullAt.IsZero() {
			t.Fatal("the disk was not found full")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		queueSome(t, s, LaneMeasurement, 1, 1000)
		flushed(t, s)
		if !s.room.fullAt.IsZero() {
			t.Fatal("the disk was not found to have room")
		}
	}
	closed(t, s)
	if n := strings.Count(said.String(), "is full: records are given up"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, said.String())
	}
}
