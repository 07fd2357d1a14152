//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Fields of /proc/PID/stat after the name, and its unit.
const (
	statParent, statUser, statSystem, statWaitedUser, statWaitedSystem = 1, 11, 12, 13, 14

	ticksPerSecond = 100 // USER_HZ, which is 100 on every Linux
)

// processCPU is the processor time that a process has used, with that of its children that have ended.
func processCPU(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	ticks := 0
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	for _, i := range []int{statUser, statSystem, statWaitedUser, statWaitedSystem} {
		if i < len(fields) {
			n, _ := strconv.Atoi(fields[i]) // a number, by the kernel's word
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// familyCPU is that of a process and of its children: of a database server.
func familyCPU(pid int) time.Duration {
	sum := processCPU(pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // fails only for a malformed pattern
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > statParent && fields[statParent] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			sum += processCPU(child)
		}
	}
	return sum
}
