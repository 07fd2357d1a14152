//go:build faults

package oracle

import (
	"encoding/base64"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/fulgidus/heimdall/protocol"
)

// testimony is the file; nil when nobody asked for it.
var testimony = sync.OnceValue(func() *os.File {
	path := os.Getenv("HEIMDALL_ORACLE")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		panic(fmt.Sprintf("HEIMDALL_ORACLE: %v", err))
	}
	// The process before may have been killed in the middle of a line.
	write(f, "\nstart %d .\n", os.Getpid())
	return f
})

// write appends whole lines. An oracle that cannot write would make the test blame the programs: better no test at all.
func write(f *os.File, format string, args ...any) {
	if _, err := fmt.Fprintf(f, format, args...); err != nil {
		panic(fmt.Sprintf("HEIMDALL_ORACLE: %v", err))
	}
}

var numbers atomic.Uint64

// Ticket stands for a record on its way into the spool.
type Ticket struct {
	spool    Spool // nil: nobody asks
	identity [protocol.SpoolBytes]byte
	number   uint64
}

// Give is called before a record goes to the spool.
func Give(spool Spool, kind protocol.Kind, payload []byte) Ticket {
	f := testimony()
	if f == nil {
		return Ticket{}
	}
	t := Ticket{spool, spool.Identity(), numbers.Add(1)}
	write(f, "give %d %s %s .\n", t.number, kind, base64.StdEncoding.EncodeToString(payload))
	return t
}

// Took is called with the number that the record got, 0 for none, and whether it is known to be on disk. When the identity
// changed meanwhile, nobody can tell whose number it is, and the oracle is silent.
func (t Ticket) Took(seq uint64, durable bool) {
	if t.spool == nil || seq == 0 || t.spool.Identity() != t.identity {
		return
	}
	how := "queue"
	if durable {
		how = "put"
	}
	write(testimony(), "took %d %x %d %s .\n", t.number, t.identity, seq, how)
}

// Commit is called when all numbers of an identity up to seq are on disk.
func Commit(identity [protocol.SpoolBytes]byte, seq uint64) {
	if f := testimony(); f != nil {
		write(f, "commit %x %d .\n", identity, seq)
	}
}
