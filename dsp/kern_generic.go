//go:build !amd64 || purego

package dsp

// kernelEngines are those with kernels in assembly: none for this processor.
func kernelEngines() []engine { return nil }
