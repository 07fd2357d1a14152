package dsp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestNths_AreThoseOfSortedValues compares every engine with sorting, from starts that are near, far and none.
func TestNths_AreThoseOfSortedValues(t *testing.T) {
	kinds := map[string]func(*rand.Rand) float32{
		"noise":    func(r *rand.Rand) float32 { return float32(r.ExpFloat64()) * 1e-6 },
		"the same": func(*rand.Rand) float32 { return 0.25 },
		"few":      func(r *rand.Rand) float32 { return float32(r.IntN(3)) },
		"zero":     func(*rand.Rand) float32 { return 0 },
		"tiny":     func(r *rand.Rand) float32 { return math.Float32frombits(uint32(r.IntN(50))) },
		"all bits": func(r *rand.Rand) float32 { return math.Float32frombits(r.Uint32N(0x7f800000)) },
	}
	for _, e := range runnableEngines() {
		for name, value := range kinds {
			for _, rows := range []int{1, 2, 3, 5, 32, slabRows + lagRows} {
				t.Run(fmt.Sprint(e.name, " ", name, " ", rows), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(rows), 3))
					c := newColumns(rows)
					var sorted [columnLanes][]float32
					var row, got, last [columnLanes]float32
					for range rows {
						for i := range row {
							row[i] = value(rng)
							sorted[i] = append(sorted[i], row[i])
						}
						c.add(e, row[:], columnLanes, 1)
					}
					for i := range sorted {
						slices.Sort(sorted[i])
					}
					for _, k := range []int{0, rows / 5, rows - 1} {
						for _, start := range []float32{0, 1e-6, math.MaxFloat32, sorted[0][k]} {
							for i := range last {
								last[i] = start
							}
							e.nths(&got, &last, &c, k)
							for i := range got {
								if got[i] != sorted[i][k] {
									t.Fatalf("column %d, index %d, from %g: got %g, want %g", i, k, start, got[i], sorted[i][k])
								}
							}
						}
					}
				})
			}
		}
	}
}
