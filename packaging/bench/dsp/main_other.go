//go:build !linux

// Command dsp measures the survey chain against other programs. It takes the time of threads as the Linux kernel tells it.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: this runs on Linux only")
	os.Exit(1)
}
