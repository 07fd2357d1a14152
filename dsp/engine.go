package dsp

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// engineSetting is the environment variable that forces an engine.
const engineSetting = "HEIMDALL_DSP"

// engine is a way of doing what takes most time: the portable one, or kernels for some processors.
type engine struct {
	name    string
	needs   string                                         // of the processor, where it lacks them; empty: it can run here
	segment func(n int, window []float32) (segment, error) // n as for NewFFT
	filters func() filters                                 // for one channel
	sums    func(raw []byte, format Format) sums           // of at most sumsBlock samples
	gather  gather
	nths    nths
	// over sets a bit for each value that is not under its limit.
	over func(marks []uint64, values, limits []float32)
}

// lanes is how many numbers a kernel's vector holds.
const lanes = 8

var portable = engine{name: "generic", segment: newPortableSegment, filters: newPortableFilters, sums: portableSums, gather: portableGather, nths: portableNths, over: portableOver}

// chosen is what the processor and the environment say, looked at once.
var chosen = sync.OnceValues(func() (engine, error) { return chooseEngine(os.Getenv(engineSetting)) })

// Engine is the name of the code that does what takes most time: generic, or that of kernels for this processor. It is an
// error when the environment variable HEIMDALL_DSP asks for one that is not there. A program says so before it
// begins: NewWelch, NewDetector and NewChannelizer return the same error.
func Engine() (string, error) {
	e, err := chosen()
	return e.name, err
}

// chooseEngine takes the one that is asked for, or the best that can run.
func chooseEngine(setting string) (engine, error) {
	names := []string{portable.name}
	best := portable
	for _, e := range kernelEngines() {
		names = append(names, e.name)
		switch {
		case setting == e.name && e.needs != "":
			return engine{}, fmt.Errorf("%s=%s: this processor has no %s; unset it", engineSetting, setting, e.needs)
		case setting == e.name:
			return e, nil
		case e.needs == "":
			best = e
		}
	}
	switch setting {
	case "":
		return best, nil
	case portable.name:
		return portable, nil
	}
	return engine{}, fmt.Errorf("%s=%s: this program has %s; set one of them, or unset it", engineSetting, setting, strings.Join(names, " and "))
}
