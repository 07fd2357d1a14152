package radio

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Fault is one thing wrong with a source URL or a recording, in words for the operator.
type Fault struct { //nolint:errname // the word that configs and operators use
	Where string // `source "file:…"` or `recording x.wav`
	Field string // what is wrong: a parameter or a part of a file
	Value string // what was found; empty when the point is that there is none
	Mend  string // what to do or what was wanted
}

// Error is one line: where, field, value, mend.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Where)
	b.WriteString(": ")
	b.WriteString(f.Field)
	if f.Value != "" {
		fmt.Fprintf(&b, " %q", f.Value)
	}
	b.WriteString(": ")
	b.WriteString(f.Mend)
	return b.String()
}

// unreadable is the Fault of a file that is not there or may not be read. Other errors may pass and stay what they are.
func unreadable(where string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &Fault{where, "file", "", "missing: look at the path; a relative one begins in the folder where the program was started"}
	case errors.Is(err, os.ErrPermission):
		return &Fault{where, "file", "", "this account may not read it: give it the right to"}
	}
	return fmt.Errorf("open %s: %w", where, err)
}

// Faults lists every Fault in err, in order, however deep it is wrapped or joined.
func Faults(err error) []*Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Fault
		for _, e := range many.Unwrap() {
			all = append(all, Faults(e)...)
		}
		return all
	}
	if errors.As(err, &f) {
		return []*Fault{f}
	}
	return nil
}
