// Package invariant judges whether stations lost, doubled or invented a record. It compares what the agents' oracles say was
// given with what the database, the spools and the acknowledgements on the broker say became of it, and knows nothing of how
// either program works inside.
//
// # Rules
//
// A record is promised once it is known to be on disk: its Put returned, or the same process wrote a commit of its identity
// that reaches its number. A record that was given a number and was not on disk when its process was killed is not promised,
// and its number may be given again; with no line that tells its number, it may be in or not. Either is right.
//
// A promised record has to be in the database once, under the number it got or, after a conflict, under another; or refused
// there; or still in a spool; or named by a Gap with a reason that its station's policy allows. For every identity, the
// numbers from 1 to the highest that anybody knows of have to be one of these, too. No row may hold what no oracle gave, but
// for the Gap records that a spool makes itself. No number may be acknowledged before the database holds it.
package invariant

import (
	"time"

	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

// Identity is that of a spool.
type Identity = [protocol.SpoolBytes]byte

// Number names a record of a station.
type Number struct {
	Spool Identity
	Seq   uint64
}

// World is all that is known at the end of a run.
type World struct {
	Stations []Station // those that are judged
	Database
	Acks []Ack // as seen on the broker
}

// Station is one that is judged, and what it may lose.
type Station struct {
	ID      string
	Agents  []Agent // more than one: a spool was copied
	Policy  Policy
	Damages []Damage
}

// Policy says which faults a station was given. The zero value stands for faults that destroy nothing: nothing may be lost.
type Policy struct {
	Full    bool // its disk or its limit: records may be given up, the least valuable first
	Damaged bool // its spool: what the damage took may be given up
	Cloned  bool // its spool was copied: numbers may be taken, and records move to others
	Skewed  bool // its clock: the collector may refuse times in the future
}

// Agent is one state directory of a station.
type Agent struct {
	Log  *oracle.Log
	Held []Held
}

// Held is a record that is still in a spool.
type Held struct {
	Number
	Payload []byte
	Gap     *Gap // of that kind: it is on its way, and declares what it names
}

// Damage is what somebody did to a spool while its agent was down.
type Damage struct {
	Kind   string
	Held   [][]byte // payloads of the records that were held before
	Intact [][]byte // of these, those whose bytes the damage left
}

// Database is what a collector's database holds.
type Database struct {
	Rows     []Row
	Rejected []Rejected
	Ledgers  []Ledger
}

// Row is a stored record.
type Row struct {
	Station string
	Number
	Kind     protocol.Kind
	Time     int64 // ns
	Digest   [8]byte
	Received time.Time
	Gap      *Gap // of that kind
}

// Gap is the content of a Gap record.
type Gap struct {
	Spool          Identity // that the ranges are of
	Ranges         protocol.Ranges
	Reason         string
	Lane           string
	Records, Bytes uint64 // 0: not said
}

// Rejected is a numbered record that the collector refused.
type Rejected struct {
	Station string
	Number
	Reason string
}

// Ledger is the collector's own account of a spool.
type Ledger struct {
	Station                              string
	Spool                                Identity
	Received, Rejected, Gapped, Released protocol.Ranges
}

// Ack is an acknowledgement as it was published.
type Ack struct {
	Station string
	Spool   Identity
	Settled protocol.Ranges
	// Unproven is what of it the database did not hold when somebody looked right after.
	Unproven protocol.Ranges
}
