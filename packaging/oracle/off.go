//go:build !faults

package oracle

import "github.com/fulgidus/heimdall/protocol"

// Ticket stands for a record on its way into the spool.
type Ticket struct{}

// Give is called before a record goes to the spool.
func Give(Spool, protocol.Kind, []byte) Ticket { return Ticket{} }

// Took is called with the number that the record got, 0 for none, and whether it is known to be on disk.
func (Ticket) Took(uint64, bool) {}

// Commit is called when all numbers of an identity up to seq are on disk.
func Commit([protocol.SpoolBytes]byte, uint64) {}
