package main

import "syscall"

// endsWithParent has a process ended when the thread that started it ends, however that comes about.
func endsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
