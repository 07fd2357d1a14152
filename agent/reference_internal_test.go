package main

import (
	"flag"
	"testing"

	"github.com/fulgidus/heimdall/configs/reference"
)

var update = flag.Bool("update", false, "write the table of configs/README.md again")

func TestReference_NamesEveryKey(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Station.Position = &PositionConfig{Publish: "10km"}
	cfg.Spool.Path = "/var/lib/heimdall-agent" // elsewhere for a user's run
	cfg.Metrics.Listen = new(defaultMetrics)
	receiver := ReceiverConfig{Plan: []StepConfig{{}}, Calibration: &CalibrationConfig{Table: []CalibrationPointConfig{{}}}}
	receiver.setDefaults()
	cfg.Receivers = []ReceiverConfig{receiver}
	reference.Check(t, programName, cfg, *update)
}
