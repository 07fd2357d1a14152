package survey_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

// TestAnalyzer_OnThePortableEngine runs the acceptance vectors once more without the kernels of this processor, and without the race
// detector, which would take most of the time there and finds nothing else than with them.
func TestAnalyzer_OnThePortableEngine(t *testing.T) {
	switch engine, err := dsp.Engine(); {
	case err != nil:
		t.Fatal(err)
	case engine == "generic":
		return // they run on it anyway
	}
	vectors := "TestAnalyzer_(Tone|ToneBetweenBins|WhiteNoise|SilentConverter|QPSK|MSK|NoiseBand|Bursts|Clipping|TwoTones|GainStep|BlockSplitInvariant|LowRate)$|TestRun_Recording"
	tests := filepath.Join(t.TempDir(), "survey.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", tests, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.CommandContext(t.Context(), tests, "-test.run", vectors, "-test.count=1")
	c.Env = append(os.Environ(), "HEIMDALL_DSP=generic")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
