package main

import "slices"

// work is what an operation costs a processor of AMD's Zen 3.
type work struct {
	latency int   // cycles until its result is there
	pipes   []int // which of four can do it, the first one first where several are free
	cycles  int   // for so many
}

var (
	additions = []int{3, 2}
	products  = []int{0, 1}
	shuffles  = []int{1, 2}
	allPipes  = []int{0, 3, 1, 2}
	sumWork   = work{3, additions, 1}
	mulWork   = work{3, products, 1}
	fusedWork = work{4, products, 1}
	twoWork   = work{7, products, 2} // a product, and one fused with it
	turnWork  = work{1, shuffles, 1} // within each half of a vector
	crossWork = work{4, shuffles, 1} // from one half to the other
)

// works are those of the operations that are not work{1, allPipes, 1}.
var works = map[code]work{
	add: sumWork, sub: sumWork, toFloat: sumWork,
	mul: mulWork, smaller: mulWork, larger: mulWork, compare: mulWork,
	addRoot: fusedWork, subRoot: fusedWork, mulAdd: fusedWork, subMul: fusedWork,
	turnedRe: twoWork, turnedIm: twoWork, squares: twoWork, accumulate: twoWork,
	unpackLow: turnWork, unpackHigh: turnWork, shuffle: turnWork, alternate: turnWork, pick: turnWork, shiftLeft: turnWork, shiftSigned: turnWork,
	halves: crossWork, quarters: crossWork,
	store: {1, allPipes, 0},
}

func workOf(c code) work {
	if w, ok := works[c]; ok {
		return w
	}
	return work{1, allPipes, 1}
}

// scheduler puts the operations of a program into an order in which a processor waits little: of those whose arguments are there, first the one
// with the longest way to the end. Loads cost nothing and stand before their first use. It knows nothing of memory: what a program stores in a
// place that it also loads must depend on all its loads, as what a pass stores does.
type scheduler struct {
	p      *program
	uses   [][]int
	height []int // cycles from an operation to the end
	ready  []int // the cycle of each result
	done   []bool
	left   []int // uses of each value to come
	held   []bool
	live   int    // values that are held
	free   [4]int // the cycle from which on each pipe is
	now    int
}

// scheduled is p in such an order where a loop makes one turn at once. Two registers are left for what an operation needs beside.
func (cpu processor) scheduled(p *program) *program {
	if cpu.turns > 1 {
		return p
	}
	registers, n := cpu.registers-2, len(p.ops)
	s := &scheduler{
		p: p, uses: p.uses(), height: make([]int, n), ready: make([]int, n), done: make([]bool, n), left: make([]int, n), held: make([]bool, n),
	}
	for i := n - 1; i >= 0; i-- {
		for _, u := range s.uses[i] {
			s.height[i] = max(s.height[i], s.height[u])
		}
		s.height[i] += workOf(p.ops[i].code).latency
		s.left[i] = len(s.uses[i])
		s.done[i] = p.ops[i].code == load
	}
	q, at := &program{}, make(map[value]value)
	for i := s.next(registers); i >= 0; i = s.next(registers) {
		s.do(i)
		o := p.ops[i]
		o.args = slices.Clone(o.args)
		for k, a := range o.args {
			if _, ok := at[a]; !ok {
				at[a] = q.append(p.ops[a])
			}
			o.args[k] = at[a]
		}
		at[value(i)] = q.append(o)
	}
	return q
}

// next is the operation to come; -1 when all are done.
func (s *scheduler) next(registers int) int {
	best, least := -1, []int(nil)
	for i, o := range s.p.ops {
		if s.done[i] || slices.ContainsFunc(o.args, func(a value) bool { return !s.done[a] }) {
			continue
		}
		_, start := s.start(i)
		more := s.more(i)
		if s.live+more <= registers {
			more = 0
		}
		if key := []int{max(more, 0), max(start-s.now, 0), -s.height[i]}; best < 0 || slices.Compare(key, least) < 0 {
			best, least = i, key
		}
	}
	return best
}

// start is the pipe that can do an operation first, and when.
func (s *scheduler) start(i int) (pipe, cycle int) {
	arguments := 0
	for _, a := range s.p.ops[i].args {
		arguments = max(arguments, s.ready[a])
	}
	pipe = -1
	for _, k := range workOf(s.p.ops[i].code).pipes {
		if c := max(arguments, s.free[k]); pipe < 0 || c < cycle {
			pipe, cycle = k, c
		}
	}
	return pipe, cycle
}

// inMemory are values that need no register: instructions can read them where they are.
func (s *scheduler) inMemory(v value) bool {
	o := s.p.ops[v]
	_, constant := fixed(o.at)
	return o.code == load && (constant || o.at.array == "factor")
}

// more is how many more values are held after an operation than before.
func (s *scheduler) more(i int) int {
	n := min(s.left[i], 1)
	for k, a := range s.p.ops[i].args {
		switch last := s.left[a] == 1; {
		case slices.Contains(s.p.ops[i].args[:k], a), s.inMemory(a):
		case s.held[a] && last:
			n--
		case !s.held[a] && !last:
			n++
		}
	}
	return n
}

func (s *scheduler) do(i int) {
	s.live += s.more(i)
	w := workOf(s.p.ops[i].code)
	pipe, start := s.start(i)
	s.free[pipe], s.ready[i] = start+w.cycles, start+w.latency
	s.now = max(s.now, start)
	for k, a := range s.p.ops[i].args {
		if !slices.Contains(s.p.ops[i].args[:k], a) {
			s.left[a]--
			s.held[a] = s.left[a] > 0 && !s.inMemory(a)
		}
	}
	s.held[i], s.done[i] = s.left[i] > 0, true
}
