//go:build !linux

// Command bench measures the whole way of a record. It reads what the Linux kernel tells of processes.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: this runs on Linux only")
	os.Exit(1)
}
