//go:build race

package spool

// How much the tests try where the race detector makes everything several times dearer: `make cover` runs them without it.
const (
	OutageRecords = 200_000
	Kills         = 50
	PowerCuts     = 80
	DamagedCopies = 5
)
