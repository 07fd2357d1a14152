package protocol

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Range is a closed run of sequence numbers: both ends belong to it.
type Range struct {
	From, To uint64
}

// Ranges is a set of sequence numbers: closed ranges, sorted, neither overlapping nor touching. The zero value is
// the empty set. Make one with NewRanges, Add or the set operations; these keep the form, writing elements does not.
// Add and AddRange work in place, so a copy that must not change is a Clone; the other operations make new sets.
type Ranges []Range

// NewRanges is the union of the given ranges, in any order. One whose From is above its To is empty.
func NewRanges(ranges ...Range) Ranges {
	sorted := make(Ranges, 0, len(ranges))
	for _, r := range ranges {
		if r.From <= r.To {
			sorted = append(sorted, r)
		}
	}
	if len(sorted) == 0 {
		return nil
	}
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	return mergeSorted(sorted)
}

// mergeSorted joins in place what overlaps or touches in ranges sorted by From.
func mergeSorted(sorted Ranges) Ranges {
	out := sorted[:1]
	for _, r := range sorted[1:] {
		out = appendRange(out, r)
	}
	return out
}

// appendRange adds r, whose From is not below the last one's, at the end.
func appendRange(out Ranges, r Range) Ranges {
	if n := len(out); n > 0 && touches(out[n-1].To, r.From) {
		out[n-1].To = max(out[n-1].To, r.To)
		return out
	}
	return append(out, r)
}

// touches tells whether a range that begins at from overlaps one that ends at to, or continues it.
func touches(to, from uint64) bool { return to == math.MaxUint64 || from <= to+1 }

// Add adds one number.
func (s *Ranges) Add(n uint64) { s.AddRange(n, n) }

// AddRange adds the closed range from..to; nothing when from is above to. At the upper end it takes constant time.
func (s *Ranges) AddRange(from, to uint64) {
	if from > to {
		return
	}
	set := *s
	if n := len(set); n == 0 || set[n-1].From <= from {
		*s = appendRange(set, Range{from, to})
		return
	}
	// The ranges first..last-1 overlap or touch the new one and become one with it.
	first, _ := slices.BinarySearchFunc(set, from, func(r Range, from uint64) int {
		if touches(r.To, from) {
			return 1
		}
		return -1
	})
	last := first
	for last < len(set) && touches(to, set[last].From) {
		from = min(from, set[last].From)
		to = max(to, set[last].To)
		last++
	}
	*s = slices.Replace(set, first, last, Range{from, to})
}

// Contains tells whether n is in the set.
func (s Ranges) Contains(n uint64) bool {
	i := s.search(n)
	return i < len(s) && s[i].From <= n
}

// ContainsRange tells whether every number of from..to is in the set.
func (s Ranges) ContainsRange(from, to uint64) bool {
	if from > to {
		return true
	}
	i := s.search(from)
	return i < len(s) && s[i].From <= from && to <= s[i].To
}

// search is the index of the first range that ends at or after n.
func (s Ranges) search(n uint64) int {
	i, _ := slices.BinarySearchFunc(s, n, func(r Range, n uint64) int { return cmp.Compare(r.To, n) })
	return i
}

// Count is how many numbers are in the set; math.MaxUint64 also for the one set that has one more.
func (s Ranges) Count() uint64 {
	var n uint64
	for _, r := range s {
		if r.From == 0 && r.To == math.MaxUint64 {
			return math.MaxUint64
		}
		n += r.To - r.From + 1
	}
	return n
}

// Empty tells whether nothing is in the set.
func (s Ranges) Empty() bool { return len(s) == 0 }

// First is the lowest number, Last the highest; 0 for the empty set.
func (s Ranges) First() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[0].From
}

// Last is the highest number; 0 for the empty set.
func (s Ranges) Last() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].To
}

// Union is a new set of what is in s, in o or in both.
func (s Ranges) Union(o Ranges) Ranges {
	if len(s)+len(o) == 0 {
		return nil
	}
	out := make(Ranges, 0, len(s)+len(o))
	for len(s) > 0 && len(o) > 0 {
		if s[0].From <= o[0].From {
			out, s = appendRange(out, s[0]), s[1:]
		} else {
			out, o = appendRange(out, o[0]), o[1:]
		}
	}
	for _, r := range s {
		out = appendRange(out, r)
	}
	for _, r := range o {
		out = appendRange(out, r)
	}
	return out
}

// Subtract is a new set of what is in s and not in o.
func (s Ranges) Subtract(o Ranges) Ranges {
	var out Ranges
	for _, r := range s {
		for len(o) > 0 && o[0].To < r.From {
			o = o[1:]
		}
		from, whole := r.From, true
		for _, cut := range o {
			if cut.From > r.To {
				break
			}
			if cut.From > from {
				out = append(out, Range{from, cut.From - 1})
			}
			if cut.To >= r.To {
				whole = false
				break
			}
			from = cut.To + 1
			o = o[1:]
		}
		if whole {
			out = append(out, Range{from, r.To})
		}
	}
	return out
}

// Intersect is a new set of what is both in s and in o.
func (s Ranges) Intersect(o Ranges) Ranges {
	var out Ranges
	for len(s) > 0 && len(o) > 0 {
		from, to := max(s[0].From, o[0].From), min(s[0].To, o[0].To)
		if from <= to {
			out = append(out, Range{from, to})
		}
		if s[0].To < o[0].To {
			s = s[1:]
		} else {
			o = o[1:]
		}
	}
	return out
}

// Clone is a copy that shares nothing with s.
func (s Ranges) Clone() Ranges { return slices.Clone(s) }

// Head is a new set of the lowest ranges, at most most of them.
func (s Ranges) Head(most int) Ranges { return slices.Clone(s[:min(max(most, 0), len(s))]) }

// Coarsen is a new set of at most most ranges (at least one) that holds all of s: the smallest holes are filled.
func (s Ranges) Coarsen(most int) Ranges {
	most = max(most, 1)
	if len(s) <= most {
		return slices.Clone(s)
	}
	holes := make([]int, len(s)-1) // hole i lies between s[i] and s[i+1]
	for i := range holes {
		holes[i] = i
	}
	width := func(i int) uint64 { return s[i+1].From - s[i].To }
	slices.SortStableFunc(holes, func(a, b int) int { return cmp.Compare(width(b), width(a)) })
	kept := slices.Sorted(slices.Values(holes[:most-1]))
	out := make(Ranges, 0, most)
	from := s[0].From
	for _, i := range kept {
		out = append(out, Range{from, s[i].To})
		from = s[i+1].From
	}
	return append(out, Range{from, s[len(s)-1].To})
}

// Wire is the set as messages carry it.
func (s Ranges) Wire() []*SeqRange {
	out := make([]*SeqRange, len(s))
	for i, r := range s {
		out[i] = &SeqRange{From: new(r.From), To: new(r.To)}
	}
	return out
}

// RangesOf is the set that a message carries. Elements without both ends are left out; Validate refuses them.
func RangesOf(wire []*SeqRange) Ranges {
	ranges := make([]Range, 0, len(wire))
	for _, r := range wire {
		if r != nil && r.From != nil && r.To != nil {
			ranges = append(ranges, Range{r.GetFrom(), r.GetTo()})
		}
	}
	return NewRanges(ranges...)
}

// String is PostgreSQL's int8multirange in its canonical form: {[1,6),[8,9)}.
func (s Ranges) String() string {
	b := make([]byte, 0, 2+24*len(s))
	b = append(b, '{')
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, r.From, 10)
		b = append(b, ',')
		if r.To == math.MaxUint64 { // has no successor; PostgreSQL cannot hold it anyway
			b = strconv.AppendUint(b, r.To, 10)
			b = append(b, ']')
			continue
		}
		b = strconv.AppendUint(b, r.To+1, 10)
		b = append(b, ')')
	}
	return string(append(b, '}'))
}

// ParseMultirange reads PostgreSQL's int8multirange: with any brackets, in any order, but bounded and not negative.
// The error is an *Error.
func ParseMultirange(text string) (Ranges, error) {
	bad := func(what string) (Ranges, error) {
		return nil, refuse(CodeMalformed, "multirange", text, "%s: want a form like {[1,6),[8,9)}", what)
	}
	rest := strings.TrimSpace(text)
	if len(rest) < 2 || rest[0] != '{' || rest[len(rest)-1] != '}' {
		return bad("no braces")
	}
	rest = strings.TrimSpace(rest[1 : len(rest)-1])
	var ranges []Range
	for rest != "" {
		end := strings.IndexAny(rest, "])")
		if end < 0 {
			return bad("a range without an end")
		}
		r, ok := parseRange(strings.TrimSpace(rest[:end]), rest[end])
		if !ok {
			return bad("no range of whole numbers")
		}
		ranges = append(ranges, r)
		rest = strings.TrimSpace(rest[end+1:])
		if rest == "" {
			break
		}
		if rest[0] != ',' || len(rest) == 1 {
			return bad("no comma between ranges")
		}
		rest = strings.TrimSpace(rest[1:])
	}
	return NewRanges(ranges...), nil
}

// parseRange reads "[1,6" with its closing bracket; an empty range comes back with From above To.
func parseRange(s string, closing byte) (Range, bool) {
	if s == "" || s[0] != '[' && s[0] != '(' {
		return Range{}, false
	}
	from, to, ok := strings.Cut(s[1:], ",")
	if !ok {
		return Range{}, false
	}
	var r Range
	var err error
	if r.From, err = strconv.ParseUint(strings.TrimSpace(from), 10, 64); err != nil {
		return Range{}, false
	}
	if r.To, err = strconv.ParseUint(strings.TrimSpace(to), 10, 64); err != nil {
		return Range{}, false
	}
	empty := Range{1, 0}
	if s[0] == '(' {
		if r.From == math.MaxUint64 {
			return empty, true
		}
		r.From++
	}
	if closing == ')' {
		if r.To == 0 {
			return empty, true
		}
		r.To--
	}
	return r, true
}
