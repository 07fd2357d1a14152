package soak_test

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/e2e/soak"
)

// TestSoak is the share of `make soak` that every change goes through: all faults at once, for a while. A run that fails says
// how to repeat it.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes most of a minute")
	}
	t.Parallel() // each has its own servers
	summary, err := soak.Run(t.Context(), soak.Options{For: 20 * time.Second, Seed: 3, Module: "../../.."})
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

// TestPlaces ends both programs at each failpoint: today at its first hit, tomorrow at its second, then its third;
// HEIMDALL_PLACES=all takes all three.
func TestPlaces(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes most of a minute")
	}
	t.Parallel() // each has its own servers
	hits := []int{1 + int(time.Now().Unix()/86400%3)}
	if os.Getenv("HEIMDALL_PLACES") == "all" {
		hits = []int{1, 2, 3}
	}
	summary, err := soak.Places(t.Context(), soak.Options{For: time.Minute, Seed: 1, Module: "../../.."}, hits)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	summary.Print(&text)
	t.Log(text.String())
	if len(summary.Findings) > 0 {
		t.Errorf("promises were broken at hits %v", hits)
	}
	unseen, all, err := summary.Unseen("../../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("not met: %v", unseen)
	if len(unseen) > all/5 {
		t.Errorf("%d of %d places were not met", len(unseen), all)
	}
}
