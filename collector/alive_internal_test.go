package main

import (
	"strings"
	"testing"
)

// A collector whose database is away, or that has just begun, is not stuck. One whose API answers nobody is.
func TestCollector_Stuck(t *testing.T) {
	cfg := testConfig(t)
	w := startCollector(t, cfg)
	if what := w.stuck(t.Context()); what != "" {
		t.Errorf("while it begins: %s", what)
	}
	w.ready(t)
	if what := w.stuck(t.Context()); what != "" {
		t.Errorf("once it is ready: %s", what)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if what := w.stuck(t.Context()); !strings.Contains(what, "the API does not answer") {
		t.Errorf("without its API: %q", what)
	}
}
