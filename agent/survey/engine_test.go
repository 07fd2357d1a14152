package survey_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/fulgidus/heimdall/dsp"
)

// TestAnalyzer_OnThePortableEngine runs the acceptance vectors once more without the kernels of this processor.
func TestAnalyzer_OnThePortableEngine(t *testing.T) {
	switch engine, err := dsp.Engine(); {
	case err != nil:
		t.Fatal(err)
	case engine == "generic":
		return // they run on it anyway
	}
	vectors := "TestAnalyzer_(Tone|ToneBetweenBins|WhiteNoise|SilentConverter|QPSK|MSK|NoiseBand|Bursts|Clipping|TwoTones|GainStep|BlockSplitInvariant|LowRate)$|TestRun_Recording"
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", vectors, "-test.count=1")
	c.Env = append(os.Environ(), "HEIMDALL_DSP=generic")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
