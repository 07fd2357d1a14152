//go:build !linux

package spool

import "os"

// release does nothing: elsewhere the system takes back what it needs.
func (s *store) release() error { return nil }

// adviseCache does nothing: how other systems cache is not known here.
func adviseCache(*os.File, bool) {}

// freeBytes is not known here: a copy that does not fit fails, and is removed.
func freeBytes(string) (int64, bool) { return 0, false }
