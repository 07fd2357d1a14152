package spool

import (
	"slices"

	"github.com/fulgidus/heimdall/protocol"
)

// A backlog that drains lane by lane leaves many short runs of numbers in between, and each acknowledgement concerns few
// of them. cut and join change a large set in place, where protocol's Subtract and Union would make a new one.

// cut takes the numbers of o out of a set that nobody else refers to.
func cut(set *protocol.Ranges, o protocol.Ranges) {
	if o.Empty() {
		return
	}
	s := *set
	from := len(s) - len(numbersFrom(s, o.First()))
	to := from
	for last := o.Last(); to < len(s) && s[to].From <= last; {
		to++
	}
	left := s[from:to].Subtract(o)
	if from == 0 && len(left) == 0 {
		*set = s[to:]
		return
	}
	*set = slices.Replace(s, from, to, left...)
}

// join adds the numbers of o to a set that nobody else refers to.
func join(set *protocol.Ranges, o protocol.Ranges) {
	if o.Empty() {
		return
	}
	s := *set
	first, last := o.First(), o.Last()
	from := len(s) - len(numbersFrom(s, max(first, 1)-1)) // one that ends just below is continued
	to := from
	for to < len(s) && s[to].From <= last+1 {
		to++
	}
	*set = slices.Replace(s, from, to, s[from:to].Union(o)...)
}
