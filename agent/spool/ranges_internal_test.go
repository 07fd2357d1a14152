package spool

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/fulgidus/heimdall/protocol"
)

func TestCutAndJoin_AreSubtractAndUnion(t *testing.T) {
	some := rapid.Custom(func(t *rapid.T) protocol.Ranges {
		var r protocol.Ranges
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			from := rapid.Uint64Range(1, 80).Draw(t, "from")
			r.AddRange(from, from+rapid.Uint64Range(0, 6).Draw(t, "more"))
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		set, o := some.Draw(t, "set"), some.Draw(t, "o")
		got := set.Clone()
		cut(&got, o)
		if want := set.Subtract(o); got.String() != want.String() {
			t.Fatalf("%v without %v: got %v, want %v", set, o, got, want)
		}
		got = set.Clone()
		join(&got, o)
		if want := set.Union(o); got.String() != want.String() {
			t.Fatalf("%v with %v: got %v, want %v", set, o, got, want)
		}
	})
}
