//go:build unix

package quota_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// A card that takes its time holds up neither what is recorded nor what is published. A pipe that nobody reads is as slow as can be.
func TestBudget_WaitsForNoDisk(t *testing.T) {
	w := newWorld(t, mb)
	if err := syscall.Mkfifo(w.path+".new", 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan struct{})
	go func() {
		w.budget.Wrote(1000)
		close(wrote)
	}()
	went := make(chan struct{})
	go func() {
		for w.budget.Account().UsedBytes < 1000 {
			time.Sleep(time.Millisecond)
		}
		w.budget.Wrote(1000)
		w.budget.Stored(1, 100)
		w.budget.Afford(protocol.KindIQ, 100)
		w.budget.MaySend(protocol.KindMeasurement, 1, 100)
		w.budget.UsedUp()
		close(went)
	}()
	select {
	case <-went:
	case <-time.After(10 * time.Second):
		t.Error("the account is closed while the disk is at work")
	}
	select {
	case <-wrote:
		t.Error("the pipe was written though nobody reads it")
	default:
	}
	pipe, err := os.Open(w.path + ".new")
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	<-wrote
}
