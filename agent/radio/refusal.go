package radio

import (
	"fmt"
	"time"
)

// Refusal is a host that said no to a listener. Whoever wants to try again waits at least After: hosts count and ban those
// that do not.
type Refusal struct { //nolint:errname // what hosts do, and what it is called among operators
	Where  string        // which source, secrets removed
	Reason string        // in one word: too_busy, ip_limit, banned, password, disabled, busy …
	Mend   string        // what the operator can do
	After  time.Duration // from now
}

// Error is one line: where, reason, mend, and when it is tried again.
func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s: %s: %s", r.Where, r.Reason, r.Mend)
	if r.After > 0 {
		s += fmt.Sprintf(" (trying again in %s)", r.After.Round(time.Second))
	}
	return s
}
