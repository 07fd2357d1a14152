// Package oracle lets the test build of the agent testify which records it was given and what became of their numbers, so
// that a test can compare what a database holds with what was there to be delivered. A program built without the tag faults
// has nothing of it: its functions are empty and are inlined away.
//
// A program built with it appends to the file that HEIMDALL_ORACLE names, each line in one write, so that what was written
// stays when the program is killed at the next instruction:
//
//	start PID .                       once a process
//	give N KIND PAYLOAD .             before record N of this process goes to the spool; base64
//	took N SPOOL SEQ put|queue .      the number it got; with put it is on disk
//	commit SPOOL SEQ .                all numbers of this identity up to SEQ are on disk, or were given up and declared
//
// A line that does not end in a full stop was cut by a kill and says nothing: without took, a record may have entered the
// spool or not.
package oracle

import "github.com/fulgidus/heimdall/protocol"

// Spool is what the oracle asks of a spool.
type Spool interface {
	Identity() [protocol.SpoolBytes]byte
}
