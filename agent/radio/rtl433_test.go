package radio_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

// TestRTLTCP_Rtl433 has an independent client of rtl_tcp decode a real recording that the fake server plays.
func TestRTLTCP_Rtl433(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("rtl_433")
	if err != nil {
		t.Fatal("rtl_433 is missing: make servers installs it (apt install rtl-433)")
	}
	iq, err := os.ReadFile(filepath.Join(os.Getenv("HEIMDALL_REALDATA"), "sensibleliving_g001_433.92M_250k.cu8"))
	if err != nil {
		t.Skipf("no real recordings: %v; set HEIMDALL_REALDATA", err)
	}
	// What comes before the client's commands is of another rate: silence. Then it is played, and silence again.
	play := radiotest.Recording(append(bytes.Repeat([]byte{127, 128}, 125000), iq...))
	silence := radiotest.Recording(nil)
	server := radiotest.StartRTLTCP(t, radiotest.RTLSettings{Source: func(out []byte, tuning radiotest.RTLTuning) {
		if tuning.RateHz == 250000 && tuning.CenterHz == 433.92e6 {
			play(out, tuning)
		} else {
			silence(out, tuning)
		}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var said bytes.Buffer
	client := exec.CommandContext(ctx, program, "-d", "rtl_tcp:"+server.Address(), "-f", "433.92M", "-s", "250k", "-F", "json", "-T", "6")
	client.Stderr = &said
	decoded, err := client.Output()
	if err != nil {
		t.Errorf("rtl_433: %v", err)
	}
	for _, want := range []string{`"model" : "SensibleLiving-Moisture"`, `"house_id" : 2`, `"module_id" : 24621`} {
		if !strings.Contains(string(decoded), want) {
			t.Errorf("decoded %s, want %s", decoded, want)
		}
	}
	if t.Failed() {
		t.Logf("commands %+v; it said %s", server.Commands(), said.Bytes())
	}
}
