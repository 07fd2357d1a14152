package powerloss

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const sectorBytes = 512

// Points is how many points there are at which the power may go: before the first op, and after each.
func (r *Recording) Points() int { return len(r.ops) + 1 }

// Said is what the program had said on its standard output before a point, line by line.
func (r *Recording) Said(point int) []string {
	var all strings.Builder
	for _, o := range r.ops[:point] {
		if o.kind == opSay {
			all.Write(o.data)
		}
	}
	lines := strings.Split(all.String(), "\n")
	return lines[:len(lines)-1]
}

// After is the first point at which the program had said a line that begins so, or false if it never did.
func (r *Recording) After(line string) (point int, ok bool) {
	for i, o := range r.ops {
		if o.kind == opSay && strings.HasPrefix(string(o.data), line) {
			return i + 1, true
		}
	}
	return 0, false
}

// Image writes to the directory into what may be left when the power goes at a point.
func (r *Recording) Image(random *rand.Rand, point int, into string) error {
	durable := r.durable(point)
	contents := make([][]byte, r.nodes)
	r.writeDurable(contents, durable, point)
	r.writeSome(random, contents, durable, point)
	return r.save(r.someNames(random, durable, point), contents, root, into)
}

// durable tells which of the ops before a point are sure to be found.
func (r *Recording) durable(point int) []bool {
	durable := make([]bool, point)
	for _, sync := range r.ops[:point] {
		if sync.kind != opSync {
			continue
		}
		for i, o := range r.ops[:sync.began] {
			durable[i] = durable[i] || o.covered(sync.node)
		}
	}
	return durable
}

// covered tells whether a sync of a node makes the op durable.
func (o op) covered(node int) bool {
	switch o.kind {
	case opWrite, opTruncate:
		return o.node == node
	case opName, opUnname:
		return o.parent == node
	case opRename:
		return o.parent == node || o.newParent == node
	case opSync, opSay:
	}
	return false
}

func (r *Recording) writeDurable(contents [][]byte, durable []bool, point int) {
	for i, o := range r.ops[:point] {
		if durable[i] {
			apply(contents, o)
		}
	}
}

// writeSome adds any part of what is not durable, in any order. One image in three tears nothing, so that there are
// some in which much is there.
func (r *Recording) writeSome(random *rand.Rand, contents [][]byte, durable []bool, point int) {
	keep, tear := random.Float64(), random.IntN(3) > 0
	var some []op
	for i, o := range r.ops[:point] {
		if durable[i] || o.kind != opWrite && o.kind != opTruncate {
			continue
		}
		switch {
		case o.kind == opTruncate || !tear:
			if random.Float64() < keep {
				some = append(some, o)
			}
		default:
			some = append(some, someSectors(random, o, keep)...)
		}
	}
	if random.IntN(2) == 0 {
		random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	}
	for _, o := range some {
		apply(contents, o)
	}
}

// someSectors splits a write where the sectors of the disk end, and leaves some out.
func someSectors(random *rand.Rand, o op, keep float64) []op {
	var some []op
	for at := 0; at < len(o.data); {
		end := min(len(o.data), at+sectorBytes-int((o.offset+int64(at))%sectorBytes))
		if random.Float64() < keep {
			some = append(some, op{kind: opWrite, node: o.node, offset: o.offset + int64(at), data: o.data[at:end]})
		}
		at = end
	}
	return some
}

func apply(contents [][]byte, o op) {
	c := contents[o.node]
	switch o.kind {
	case opWrite:
		if end := int(o.offset) + len(o.data); end > len(c) {
			c = append(c, make([]byte, end-len(c))...)
		}
		copy(c[o.offset:], o.data)
	case opTruncate:
		if size := int(o.offset); size <= len(c) {
			c = slices.Clip(c[:size])
		} else {
			c = append(c, make([]byte, size-len(c))...)
		}
	case opSync, opName, opUnname, opRename, opSay:
		return
	}
	contents[o.node] = c
}

// someNames are the names in each directory: the durable changes, and any of the others that can be without those left
// out. A rename is whole or not at all.
func (r *Recording) someNames(random *rand.Rand, durable []bool, point int) map[int]map[string]int {
	keep := random.Float64()
	names := map[int]map[string]int{root: {}}
	for i, o := range r.ops[:point] {
		switch kept := durable[i] || random.Float64() < keep; {
		case !kept:
		case o.kind == opName:
			inDir(names, o.parent)[o.name] = o.node
			if o.isDir {
				inDir(names, o.node)
			}
		case o.kind == opUnname:
			delete(inDir(names, o.parent), o.name)
		case o.kind == opRename:
			if inDir(names, o.parent)[o.name] == o.node {
				delete(names[o.parent], o.name)
			}
			inDir(names, o.newParent)[o.newName] = o.node
		}
	}
	return names
}

func inDir(names map[int]map[string]int, node int) map[string]int {
	if names[node] == nil {
		names[node] = map[string]int{}
	}
	return names[node]
}

func (r *Recording) save(names map[int]map[string]int, contents [][]byte, node int, into string) error {
	for name, child := range names[node] {
		path := filepath.Join(into, name)
		if _, isDir := names[child]; isDir {
			if err := os.Mkdir(path, 0o700); err != nil {
				return fmt.Errorf("make a directory of an image: %w", err)
			}
			if err := r.save(names, contents, child, path); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(path, contents[child], 0o600); err != nil {
			return fmt.Errorf("write a file of an image: %w", err)
		}
	}
	return nil
}
