package main

import (
	"fmt"
	"strings"
)

// instructions of AVX2 for the operations with one result that map one to one. The first argument must be in a register,
// the last may lie in memory; those that take a number have it as op.imm.
var instructions = map[code]struct {
	name   string
	number bool
}{
	add: {"VADDPS", false}, sub: {"VSUBPS", false}, mul: {"VMULPS", false},
	and: {"VANDPS", false}, smaller: {"VMINPS", false}, larger: {"VMAXPS", false}, compare: {"VCMPPS", true},
	unpackLow: {"VUNPCKLPS", false}, unpackHigh: {"VUNPCKHPS", false},
	shuffle: {"VSHUFPS", true}, halves: {"VPERM2F128", true}, quarters: {"VPERMPD", true},
	shiftLeft: {"VPSLLD", true}, shiftSigned: {"VPSRAD", true}, toFloat: {"VCVTDQ2PS", false},
	addPairs: {"VHADDPS", false}, alternate: {"VSHUFPD", true}, pick: {"VPSHUFB", false},
}

// inRegisterOnly are those whose AVX2 form takes no memory operand.
var inRegisterOnly = map[code]bool{shiftLeft: true, shiftSigned: true}

// What compare compares by.
const (
	equal       = 0
	lessThan    = 1
	notLessThan = 5
)

// root is where the assembly keeps sqrt(1/2).
var root = place{array: "root"}

const vectorBytes = 32

// processor is what kernels are written for.
type processor struct {
	suffix    string // of their names
	registers int
	turns     int // of a loop at once
}

// The processors. With the registers of AVX-512 two turns of a loop fit beside one another. The vectors are the same: longer ones are
// two halves to a Zen 4, and slow the clock of older processors down.
var (
	avx2   = processor{registers: 16, turns: 1}
	avx512 = processor{suffix: "Wide", registers: 32, turns: 2}
)

// wideNames are the instructions that have other names with the registers of AVX-512.
var wideNames = map[string]string{"VINSERTF128": "VINSERTF32X4", "VPERM2F128": "VSHUFF64X2", "VBROADCASTI128": "VBROADCASTI32X4"}

// wideHalves are the numbers of VSHUFF64X2 that mean what those of VPERM2F128 do.
var wideHalves = map[int]int{0x20: 0, 0x31: 3}

// assembler turns a program into instructions. It gives out the registers in the order of the program; when none
// is free it empties that of a constant, else the one whose value is needed last, into the frame, or into nothing when it can be loaded again.
type assembler struct {
	p     *program
	cpu   processor
	at    func(place) string // the memory operand of a place
	uses  [][]int
	now   int           // index of the operation being written
	held  []value       // by each register
	where map[value]int // register of each value that is in one
	slot  map[value]int // place in the frame of each value that is there
	slots []bool        // in use
	text  strings.Builder
}

// What a register can hold beside a value: nothing, or a sum that outlasts the program.
const nothing, lasting = value(-1), value(-2)

// assemble returns the instructions of p for AVX2 and the bytes of frame that they need.
func assemble(p *program, at func(place) string) (text string, frame int) {
	return avx2.assemble(p, at)
}

// unspilled are the instructions of p where a kernel has no frame.
func unspilled(p *program, at func(place) string) string {
	text, frame := assemble(p, at)
	if frame > 0 {
		panic("more values wait than there are registers, in a kernel without a frame")
	}
	return text
}

func (cpu processor) assemble(p *program, at func(place) string) (text string, frame int) {
	if cpu.turns == 2 {
		p = twice(p)
	}
	a := &assembler{p: p, cpu: cpu, at: at, uses: p.uses(), held: make([]value, cpu.registers), where: map[value]int{}, slot: map[value]int{}}
	for r := range a.held {
		a.held[r] = nothing
	}
	for i, o := range p.ops {
		if o.code == addProduct {
			a.held[o.at.k] = lasting
		}
		if o.code == sum {
			a.held[o.at.k], a.where[value(i)] = value(i), o.at.k
		}
	}
	for i := range p.ops {
		a.now = i
		a.operation(value(i), p.ops[i])
	}
	if len(a.slots) > 0 {
		frame = (len(a.slots) + 1) * vectorBytes // one more to begin at a multiple
	}
	return a.text.String(), frame
}

func (a *assembler) write(format string, args ...any) {
	fmt.Fprintf(&a.text, "\t"+format+"\n", args...)
}

func (a *assembler) operation(v value, o op) {
	switch o.code {
	case load, sum:
	case both:
		a.write("%s %s, %s", a.instruction("VBROADCASTI128"), a.at(o.at), a.result(v))
	case spread:
		a.write("VBROADCASTSS %s, %s", a.at(o.at), a.result(v))
	case addProduct:
		x := a.register(o.args[0])
		a.write("VFMADD231PS %s, %s, %s", a.operand(o.args[1]), x, name(o.at.k))
		a.release(o.args...)
	case join: // half a vector from here, half from a vector further on
		r := a.result(v)
		a.write("VMOVUPS %s, X%s", a.at(o.at), r[1:])
		further := o.at
		further.part += 2
		a.write("%s $1, %s, %s, %s", a.instruction("VINSERTF128"), a.at(further), r, r)
	case store:
		a.write("VMOVUPS %s, %s", a.register(o.args[0]), a.at(o.at))
		a.release(o.args...)
	case storeLow:
		a.write("VMOVUPS X%s, %s", a.register(o.args[0])[1:], a.at(o.at))
		a.release(o.args...)
	case storeHigh:
		a.write("VEXTRACTF128 $1, %s, %s", a.register(o.args[0]), a.at(o.at))
		a.release(o.args...)
	case accumulate:
		re, im := a.register(o.args[0]), a.register(o.args[1])
		sum := a.result(v)
		a.write("VMOVUPS %s, %s", a.at(o.at), sum)
		a.write("VFMADD231PS %s, %s, %s", re, re, sum)
		a.write("VFMADD231PS %s, %s, %s", im, im, sum)
		a.write("VMOVUPS %s, %s", sum, a.at(o.at))
		a.release(append(o.args, v)...)
	case squares:
		re, im := a.register(o.args[0]), a.register(o.args[1])
		r := a.result(v)
		a.write("VMULPS %s, %s, %s", re, re, r)
		a.write("VFMADD231PS %s, %s, %s", im, im, r)
		a.release(o.args...)
	case addRoot, subRoot:
		a.root(v, o)
	case mulAdd:
		a.fused(v, "VFMADD231PS", o.args[0], o.args[1], o.args[2])
	case subMul:
		a.fused(v, "VFNMADD231PS", o.args[0], o.args[1], o.args[2])
	case turnedRe:
		a.product(v, "VFNMADD231PS", o.args[0], o.args[2], o.args[1], o.args[3])
	case turnedIm:
		a.product(v, "VFMADD231PS", o.args[0], o.args[3], o.args[1], o.args[2])
	default:
		a.plain(v, o)
	}
}

func (a *assembler) plain(v value, o op) {
	i, ok := instructions[o.code]
	if !ok {
		panic(fmt.Sprintf("operation %d has no instruction", o.code))
	}
	last := len(o.args) - 1
	var operands []string
	if last > 0 {
		operands = append(operands, a.register(o.args[0]))
	}
	if inRegisterOnly[o.code] {
		operands = append([]string{a.register(o.args[last])}, operands...)
	} else {
		operands = append([]string{a.operand(o.args[last])}, operands...)
	}
	if i.number {
		number := o.imm
		if o.code == halves && a.cpu.registers > 16 {
			number = wideHalves[o.imm]
		}
		operands = append([]string{fmt.Sprintf("$%d", number)}, operands...)
	}
	a.release(o.args...)
	a.write("%s %s, %s", a.instruction(i.name), strings.Join(operands, ", "), a.result(v))
}

// instruction is the name of one on this processor.
func (a *assembler) instruction(name string) string {
	if wide, ok := wideNames[name]; ok && a.cpu.registers > 16 {
		return wide
	}
	return name
}

// product is x y, then plus or minus z w. The factors y and w may lie in memory.
func (a *assembler) product(v value, second string, x, y, z, w value) {
	rx, oy := a.register(x), a.operand(y)
	r := a.result(v)
	a.write("VMULPS %s, %s, %s", oy, rx, r)
	rz := a.register(z)
	a.write("%s %s, %s, %s", second, a.operand(w), rz, r)
	a.release(x, y, z, w)
}

// fused is z plus or minus x y, in the register of z or in a copy when z is used again. y may lie in memory.
func (a *assembler) fused(v value, name string, x, y, z value) {
	rx, oy, rz := a.register(x), a.operand(y), a.register(z)
	if a.last(z) {
		a.write("%s %s, %s, %s", name, oy, rx, rz)
		a.rename(z, v)
		a.release(x, y)
		return
	}
	r := a.result(v)
	a.write("VMOVAPS %s, %s", rz, r)
	a.write("%s %s, %s, %s", name, oy, rx, r)
	a.release(x, y)
}

// root is x plus or minus y sqrt(1/2): fused into the register of the one that is not used again.
func (a *assembler) root(v value, o op) {
	x, y := o.args[0], o.args[1]
	name := "VFMADD"
	if o.code == subRoot {
		name = "VFNMADD"
	}
	rx, ry := a.register(x), a.register(y)
	if a.last(y) && !a.last(x) {
		a.write("%s132PS %s, %s, %s", name, a.at(root), rx, ry)
		a.rename(y, v)
		a.release(x)
		return
	}
	if a.last(x) {
		a.write("%s231PS %s, %s, %s", name, a.at(root), ry, rx)
		a.rename(x, v)
		a.release(y)
		return
	}
	r := a.result(v)
	a.write("VMOVAPS %s, %s", rx, r)
	a.write("%s231PS %s, %s, %s", name, a.at(root), ry, r)
}

// rename says that the register of one value now holds another.
func (a *assembler) rename(from, to value) {
	r := a.where[from]
	a.forget(from)
	a.held[r], a.where[to] = to, r
}

// next is the operation after now that uses a value; far beyond all when there is none.
func (a *assembler) next(v value, from int) int {
	for _, u := range a.uses[v] {
		if u >= from {
			return u
		}
	}
	return len(a.p.ops) + 1
}

func (a *assembler) last(v value) bool { return a.next(v, a.now+1) > len(a.p.ops) }

// operand is where a value can be read by an instruction that takes memory: it stays there when this is its last use or
// no register is free.
func (a *assembler) operand(v value) string {
	_, held := a.where[v]
	memory := ""
	if s, ok := a.slot[v]; ok {
		memory = slotAt(s)
	} else if a.p.ops[v].code == load {
		memory = a.at(a.p.ops[v].at)
	}
	if held || memory == "" || !a.last(v) && a.free() >= 0 {
		return a.register(v)
	}
	return memory
}

// register brings a value into a register.
func (a *assembler) register(v value) string {
	if r, ok := a.where[v]; ok {
		return name(r)
	}
	r := a.take()
	if s, ok := a.slot[v]; ok {
		a.write("VMOVUPS %s, %s", slotAt(s), name(r))
	} else {
		if a.p.ops[v].code != load {
			panic(fmt.Sprintf("value %d is lost", v))
		}
		a.write("VMOVUPS %s, %s", a.at(a.p.ops[v].at), name(r))
	}
	a.held[r], a.where[v] = v, r
	return name(r)
}

// result is a register for a new value.
func (a *assembler) result(v value) string {
	r := a.take()
	a.held[r], a.where[v] = v, r
	return name(r)
}

func (a *assembler) free() int {
	for r, v := range a.held {
		if v == nothing {
			return r
		}
	}
	return -1
}

func (a *assembler) constant(v value) bool {
	_, ok := fixed(a.p.ops[v].at)
	return ok && a.p.ops[v].code == load
}

// take empties a register. Values that the operation being written needs stay where they are.
func (a *assembler) take() int {
	if r := a.free(); r >= 0 {
		return r
	}
	victim, farthest := -1, a.now
	for r, v := range a.held {
		if v == lasting {
			continue
		}
		n := a.next(v, a.now)
		if n > a.now && a.constant(v) {
			n += len(a.p.ops) // first of all: it can be an operand where it is
		}
		if n > farthest && int(v) != a.now {
			victim, farthest = r, n
		}
	}
	if victim < 0 {
		panic("an operation needs more registers than there are")
	}
	v := a.held[victim]
	if _, kept := a.slot[v]; !kept && a.p.ops[v].code != load {
		a.slot[v] = a.takeSlot()
		a.write("VMOVUPS %s, %s", name(victim), slotAt(a.slot[v]))
	}
	delete(a.where, v)
	a.held[victim] = nothing
	return victim
}

func (a *assembler) takeSlot() int {
	for s, used := range a.slots {
		if !used {
			a.slots[s] = true
			return s
		}
	}
	a.slots = append(a.slots, true)
	return len(a.slots) - 1
}

// release gives back the registers and slots of values that this operation uses last.
func (a *assembler) release(values ...value) {
	for _, v := range values {
		if !a.last(v) {
			continue
		}
		if r, ok := a.where[v]; ok {
			a.held[r] = nothing
		}
		a.forget(v)
	}
}

func (a *assembler) forget(v value) {
	if s, ok := a.slot[v]; ok {
		a.slots[s] = false
	}
	delete(a.slot, v)
	delete(a.where, v)
}

func name(register int) string { return fmt.Sprintf("Y%d", register) }

// slotAt is a place in the frame, which begins where kernel has R15 point.
func slotAt(slot int) string { return fmt.Sprintf("%d(R15)", slot*vectorBytes) }
