package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// faultyCollector builds the collector with its failpoints, once for all tests of the process.
var faultyCollector = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programsDir, "faulty-collector")
	cmd := exec.Command("go", "build", "-tags", "faults", "-o", path, "github.com/fulgidus/heimdall/collector")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the collector with failpoints: %w: %s", err, out)
	}
	return path, nil
})

// dieAt runs the network's collector until it ends itself at a hit of a place, named as "place:hit".
func (n *network) dieAt(t *testing.T, failpoint string) {
	t.Helper()
	path, err := faultyCollector()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "faulty.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), path, "run", "--config", n.config)
	cmd.Env = append(os.Environ(), "HEIMDALL_FAILPOINT="+failpoint)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // the one result
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("at %s it ended with %v\n%s", failpoint, err, tail(readFile(t, log), 20))
		}
	case <-time.After(time.Minute):
		t.Errorf("it did not come to %s within a minute\n%s", failpoint, tail(readFile(t, log), 20))
		cmd.Process.Kill()
		<-ended
	}
}
