package protocol_test

import (
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func TestCause_LeavesOutTheAdviceAlone(t *testing.T) {
	for message, want := range map[string]string{
		`receiver "vhf" is not connected: order it again when it is`:  `receiver "vhf" is not connected`,
		"the clock is not set: nobody can tell; order it again later": "the clock is not set: nobody can tell",
		"the history of r0 begins at 01:26:16: ask for a later start": "the history of r0 begins at 01:26:16: ask for a later start",
		"to order it again did not help: order it again":              "to order it again did not help",
		"order it again": "order it again",
		"":               "",
	} {
		if got := protocol.Cause(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}
