//go:build !linux

package spool

import "os"

// release does nothing: elsewhere the system takes back what it needs.
func (s *store) release() error { return nil }

// adviseCache does nothing: how other systems cache is not known here.
func adviseCache(*os.File, bool) {}
