package soak

import (
	"slices"
	"testing"
	"time"
)

// TestSequence_Replays shows that a seed decides what befalls each actor, and that no two have the same fate.
func TestSequence_Replays(t *testing.T) {
	o := Options{For: time.Minute, Faults: Groups()}
	fate := func(seed uint64, actor string) (lives []life) {
		r := sequence(seed, actor)
		for range 50 {
			lives = append(lives, drawAgentLife(r, o, []string{"a", "b"}))
		}
		return lives
	}
	first := fate(1, "clean-1-0")
	if !slices.Equal(first, fate(1, "clean-1-0")) {
		t.Error("one seed gave two fates")
	}
	if slices.Equal(first, fate(2, "clean-1-0")) || slices.Equal(first, fate(1, "clean-2-0")) {
		t.Error("another seed or another actor had the same fate")
	}
}

// TestDraw_Chosen shows that only chosen faults happen, and that all that were chosen do.
func TestDraw_Chosen(t *testing.T) {
	endings := func(faults ...string) map[ending]int {
		r, n := sequence(1, "any"), map[ending]int{}
		for range 1000 {
			n[drawAgentLife(r, Options{For: time.Minute, Faults: faults}, []string{"a"}).ending]++
		}
		return n
	}
	if n := endings("kills", "pauses", "failpoints"); n[byKill] < 500 || n[byPause] == 0 || n[byFailpoint] == 0 || n[byStop] == 0 {
		t.Errorf("all: %v", n)
	}
	if n := endings("kills"); n[byPause]+n[byFailpoint] != 0 {
		t.Errorf("kills only: %v", n)
	}
	if n := endings("link"); len(n) != 1 || n[byStop] != 1000 {
		t.Errorf("no kills: %v", n)
	}
}

// TestOptions_Check refuses what would test nothing.
func TestOptions_Check(t *testing.T) {
	for _, o := range []Options{{For: time.Minute, Faults: []string{"kilss"}}, {Faults: Groups()}} {
		if err := o.check(); err == nil {
			t.Errorf("%+v", o)
		}
	}
}
