package soak_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/e2e/soak"
)

// TestSoak is the share of `make soak` that every change goes through: all faults at once, for a while. A run that fails says
// how to repeat it.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than a minute")
	}
	summary, err := soak.Run(t.Context(), soak.Options{For: 40 * time.Second, Seed: 3, Module: "../../.."})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	summary.Print(&text)
	t.Log(text.String())
	if len(summary.Findings) > 0 {
		t.Error("promises were broken")
	}
	if summary.Counts["agent_kill"] < 20 || summary.Counts["collector_kill"] == 0 || summary.Records < 2000 {
		t.Error("too little happened for this to prove anything")
	}
}
