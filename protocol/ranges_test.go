package protocol_test

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fulgidus/heimdall/protocol"
)

// model is a set of small numbers, the truth that Ranges are compared with.
type model map[uint64]bool

func (m model) ranges() protocol.Ranges {
	var out protocol.Ranges
	for _, n := range slices.Sorted(maps.Keys(m)) {
		if last := len(out) - 1; last >= 0 && out[last].To+1 == n {
			out[last].To = n
		} else {
			out = append(out, protocol.Range{From: n, To: n})
		}
	}
	return out
}

// drawSet draws a set as a model and, built in the order drawn, as Ranges.
func drawSet(t *rapid.T, name string) (model, protocol.Ranges) {
	m := make(model)
	var r protocol.Ranges
	for range rapid.IntRange(0, 12).Draw(t, name+" ranges") {
		from := rapid.Uint64Range(0, 60).Draw(t, name+" from")
		to := from + rapid.Uint64Range(0, 8).Draw(t, name+" length")
		for n := from; n <= to; n++ {
			m[n] = true
		}
		if from == to {
			r.Add(from)
		} else {
			r.AddRange(from, to)
		}
	}
	return m, r
}

func same(t *rapid.T, what string, want, got protocol.Ranges) {
	if !slices.Equal(want, got) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestRanges_AgreeWithSetOfNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ma, a := drawSet(t, "a")
		mb, b := drawSet(t, "b")
		same(t, "built", ma.ranges(), a)
		before := a.Clone()

		union, rest, both := make(model), make(model), make(model)
		maps.Copy(union, ma)
		maps.Copy(union, mb)
		for n := range ma {
			if mb[n] {
				both[n] = true
			} else {
				rest[n] = true
			}
		}
		same(t, "union", union.ranges(), a.Union(b))
		same(t, "difference", rest.ranges(), a.Subtract(b))
		same(t, "intersection", both.ranges(), a.Intersect(b))
		same(t, "operand after the operations", before, a)
		if got, want := a.Count(), uint64(len(ma)); got != want {
			t.Fatalf("count is %d, want %d", got, want)
		}
		for n := range uint64(72) {
			if got := a.Contains(n); got != ma[n] {
				t.Fatalf("%v contains %d: got %v", a, n, got)
			}
			to := n + rapid.Uint64Range(0, 4).Draw(t, "width")
			want := true
			for k := n; k <= to; k++ {
				want = want && ma[k]
			}
			if got := a.ContainsRange(n, to); got != want {
				t.Fatalf("%v contains %d..%d: got %v", a, n, to, got)
			}
		}
		parsed, err := protocol.ParseMultirange(a.String())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "text "+a.String(), a, parsed)
		same(t, "wire", a, protocol.RangesOf(a.Wire()))
		checkCoarsened(t, a)
	})
}

func checkCoarsened(t *rapid.T, a protocol.Ranges) {
	most := rapid.IntRange(0, 5).Draw(t, "most")
	coarse := a.Coarsen(most)
	if len(coarse) > max(most, 1) || !a.Subtract(coarse).Empty() {
		t.Fatalf("%v coarsened to %d is %v", a, most, coarse)
	}
	if coarse.First() != a.First() || coarse.Last() != a.Last() {
		t.Fatalf("%v coarsened to %v: the ends moved", a, coarse)
	}
	same(t, "head", a[:min(most, len(a))], a.Head(most))
}

func TestCoarsen_FillsTheSmallestHoles(t *testing.T) {
	set := protocol.NewRanges(protocol.Range{From: 1, To: 2}, protocol.Range{From: 4, To: 5}, protocol.Range{From: 50, To: 60}, protocol.Range{From: 70, To: 70})
	if got, want := set.Coarsen(2).String(), "{[1,6),[50,71)}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRanges_UpToTheLargestNumber(t *testing.T) {
	const top = math.MaxUint64
	var r protocol.Ranges
	r.AddRange(top-1, top)
	r.Add(top)
	r.AddRange(5, 4)
	r.AddRange(0, 3)
	if want := (protocol.Ranges{{From: 0, To: 3}, {From: top - 1, To: top}}); !slices.Equal(r, want) {
		t.Fatalf("got %v, want %v", r, want)
	}
	if got, want := r.String(), "{[0,4),[18446744073709551614,18446744073709551615]}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	all := protocol.NewRanges(protocol.Range{From: 0, To: top})
	if got := all.Count(); got != top {
		t.Errorf("count of all numbers: got %d, want %d", got, uint64(top))
	}
	if got, want := all.Subtract(r).String(), "{[4,18446744073709551614)}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !all.Subtract(all).Empty() || all.Union(r).Count() != top {
		t.Error("all numbers: wrong difference or union")
	}
	parsed, err := protocol.ParseMultirange(r.String())
	if err != nil || !slices.Equal(parsed, r) {
		t.Errorf("parsed: got %v, %v", parsed, err)
	}
}

func TestRanges_Empty(t *testing.T) {
	var r protocol.Ranges
	if r.First() != 0 || r.Last() != 0 || r.Count() != 0 || !r.Empty() || r.Contains(0) || !r.ContainsRange(2, 1) || r.String() != "{}" {
		t.Errorf("the empty set is %v", r)
	}
	if got := r.Union(nil); got != nil {
		t.Errorf("union of nothing: %v", got)
	}
	if got := protocol.NewRanges(protocol.Range{From: 2, To: 1}); got != nil {
		t.Errorf("range without numbers: %v", got)
	}
}

func TestRangesOf_LeavesOutRangesWithoutBothEnds(t *testing.T) {
	wire := []*protocol.SeqRange{nil, {}, {From: new(uint64(1))}, {To: new(uint64(9))}, {From: new(uint64(5)), To: new(uint64(6))}}
	if got, want := protocol.RangesOf(wire).String(), "{[5,7)}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseMultirange(t *testing.T) {
	for text, want := range map[string]string{
		"{}":                         "{}",
		" { [1,6) , [8,9) } ":        "{[1,6),[8,9)}",
		"{[8,9],(1,6]}":              "{[2,7),[8,10)}",
		"{[1,3),[3,5),[4,4)}":        "{[1,5)}",
		"{[0,0)}":                    "{}",
		"{(18446744073709551615,5]}": "{}",
		"{(3,5)}":                    "{[4,5)}",
		"{[1,9223372036854775807)}":  "{[1,9223372036854775807)}",
		"{[5,18446744073709551615]}": "{[5,18446744073709551615]}",
	} {
		got, err := protocol.ParseMultirange(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{"", "{", "[1,2)", "{[1,2)", "{[1,2}", "{[1,2),}", "{[1,2)[3,4)}", "{1,2)}", "{[1)}", "{[-1,2)}", "{[1,x)}", "{[,5)}", "{[1,2),,[3,4)}", "{)}", "{empty}"} {
		if got, err := protocol.ParseMultirange(text); code(err) != protocol.CodeMalformed {
			t.Errorf("%q: got %v, %v; want an error", text, got, err)
		}
	}
}
