//go:build !race

package spool

// How much the tests try; see race_test.go.
const (
	OutageRecords = 1_000_000 // an outage of more than ten days
	Kills         = 120
	PowerCuts     = 200
	DamagedCopies = 12 // of each kind
)
