package invariant

import (
	"fmt"
	"slices"
)

// Fault is a way in which a promise was broken.
type Fault string

// The faults.
const (
	Missing    Fault = "missing"     // promised, and nowhere
	Hole       Fault = "hole"        // a number that nothing accounts for
	Duplicate  Fault = "duplicate"   // one number or one record twice
	Invented   Fault = "invented"    // stored, and never given
	Forged     Fault = "forged"      // stored under a number with another content
	Reused     Fault = "reused"      // one number given to two records, the first of them on disk
	Undeserved Fault = "undeserved"  // declared lost for a reason that the station had not
	WrongOrder Fault = "wrong_order" // something valuable given up while something less so was there
	WrongSum   Fault = "wrong_sum"   // a Gap that says another amount than what it names
	Refused    Fault = "refused"     // a sound record that the collector refused
	Early      Fault = "early"       // acknowledged before it was stored
	BadLedger  Fault = "bad_ledger"  // the collector's account is not what its tables hold
	Unsaved    Fault = "unsaved"     // too little taken over from damaged spools
)

// Finding is one broken promise.
type Finding struct {
	Fault   Fault
	Station string
	Number  Number // zero Seq: of no one number
	Text    string
}

func (f Finding) String() string {
	if f.Number.Seq == 0 {
		return fmt.Sprintf("%s: %s: %s", f.Fault, f.Station, f.Text)
	}
	return fmt.Sprintf("%s: %s-%x-%d: %s", f.Fault, f.Station, f.Number.Spool, f.Number.Seq, f.Text)
}

// Report is the judgement.
type Report struct {
	Findings []Finding
	Stations map[string]*Tally
}

// Tally is what became of a station's records.
type Tally struct {
	Given    int            `json:"given"`
	Unknown  int            `json:"unknown"`  // not promised: the agent was killed too early
	Stored   int            `json:"stored"`   // of those given
	OwnGaps  int            `json:"own_gaps"` // Gap records that the spool made
	Held     int            `json:"held"`
	Rejected int            `json:"rejected"`
	Moved    int            `json:"moved"`             // stored under another number than the first
	Doubled  int            `json:"doubled,omitempty"` // stored under both, which a copied spool may lead to
	Declared map[string]int `json:"declared"`          // lost, by reason
	Shadowed int            `json:"shadowed"`          // lost without a word when a damaged spool fell back to an older state
	Saved    []float64      `json:"saved,omitempty"`   // share of the intact records that each damage left
}

// Has tells whether a fault was found.
func (r *Report) Has(f Fault) bool {
	return slices.ContainsFunc(r.Findings, func(found Finding) bool { return found.Fault == f })
}
