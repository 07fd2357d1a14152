package spool

import (
	"errors"
	"fmt"
	"os"
)

// DamagedError says that a spool file cannot be trusted, as a whole: nothing of it is shown.
type DamagedError struct {
	Path string
	What string // is wrong with it, in words for the operator
	Mend string

	cause error
}

func (e *DamagedError) Error() string { return e.Path + " " + e.What + ": " + e.Mend }

// Unwrap gives what was found, in words of the file's format.
func (e *DamagedError) Unwrap() error { return e.cause }

// damaged says in the operator's words that a file is damaged, if err says so; other errors stay what they are.
func damaged(path string, err error) error {
	switch {
	case errors.Is(err, errFormat):
		const mend = "run the version that wrote it until nothing waits; `heimdall-agent run` of this one puts it aside unread"
		return &DamagedError{path, damageOf(path, err), mend, err}
	case errors.Is(err, errDamaged):
		return &DamagedError{path, damageOf(path, err), "`heimdall-agent run` puts it aside and saves what can be read", err}
	}
	return err
}

// damageOf is what is wrong with a file, as far as that can be told from outside.
func damageOf(path string, cause error) string {
	if errors.Is(cause, errFormat) {
		return "has a format that this version does not know"
	}
	const unknown = "is damaged: some of its pages are not as they were written"
	file, err := os.Open(path)
	if err != nil {
		return unknown
	}
	defer file.Close()
	size, err := sizeOf(file)
	if err != nil {
		return unknown
	}
	metas := readMetas(file)
	switch {
	case size == 0:
		return "is empty"
	case len(metas) == 0:
		return fmt.Sprintf("is damaged: its %d bytes do not begin as a spool file does", size)
	case size < int64(metas[0].count)*metas[0].pageSize:
		return fmt.Sprintf("is cut short at %d of %d bytes", size, int64(metas[0].count)*metas[0].pageSize)
	case len(metas) == 1:
		return "is damaged: its beginning is not as it was written"
	}
	return unknown
}
