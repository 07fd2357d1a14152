package dsp

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestOnARM64 runs the tests of the code that takes most time as they are compiled for the processor of most small computers, which
// fuses multiplications and additions.
func TestOnARM64(t *testing.T) {
	if runtime.GOARCH == "arm64" || os.Getenv(engineSetting) != "" {
		return // these tests are such a run, or one of a single engine
	}
	if runtime.GOOS != "linux" {
		t.Skip("programs for another processor run under Linux only")
	}
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Fatalf("%v: `make servers` installs it, from Debian's qemu-user-static", err)
	}
	t.Parallel()
	tests := filepath.Join(t.TempDir(), "dsp.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", tests, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), emulator, tests, "-test.run", "FFT|Sums|Nths|Convert|Filters|FloatsThatAreNone|EveryCode|Burst$")
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
