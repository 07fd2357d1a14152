//go:build !linux

package main

import "syscall"

// endsWithParent has no counterpart outside Linux: a demo that is killed leaves its agents there.
func endsWithParent() *syscall.SysProcAttr { return nil }
