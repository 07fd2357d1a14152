package main

import (
	"fmt"
	"strings"
)

// goText is a program as Go statements on single numbers. Loads stand where they are used: the compiler knows those that
// are the same, and needs fewer registers than when all of them come first.
func goText(p *program, at func(place) string) string {
	var b strings.Builder
	p.uses() // refuses a load that a store would spoil
	text := func(v value) string {
		if o := p.ops[v]; o.code == load {
			return at(o.at)
		}
		return fmt.Sprintf("v%d", v)
	}
	for i, o := range p.ops {
		var a []string
		for _, v := range o.args {
			a = append(a, text(v))
		}
		var e string
		switch o.code {
		case load:
			continue
		case store:
			fmt.Fprintf(&b, "%s = %s\n", at(o.at), a[0])
			continue
		case accumulate:
			fmt.Fprintf(&b, "%s += %s*%s + %s*%s\n", at(o.at), a[0], a[0], a[1], a[1])
			continue
		case add:
			e = a[0] + "+" + a[1]
		case sub:
			e = a[0] + "-" + a[1]
		case addRoot:
			e = a[0] + "+" + a[1] + "*halfSqrt2"
		case subRoot:
			e = a[0] + "-" + a[1] + "*halfSqrt2"
		case turnedRe:
			e = a[0] + "*" + a[2] + "-" + a[1] + "*" + a[3]
		case turnedIm:
			e = a[0] + "*" + a[3] + "+" + a[1] + "*" + a[2]
		default:
			panic(fmt.Sprintf("operation %d has no Go text", o.code))
		}
		fmt.Fprintf(&b, "v%d := %s\n", i, e)
	}
	return b.String()
}
