package main

import (
	"flag"
	"testing"

	"github.com/fulgidus/heimdall/configs/reference"
)

var update = flag.Bool("update", false, "write the table of configs/README.md again")

func TestReference_NamesEveryKey(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTP.TLS = &TLSConfig{}
	reference.Check(t, programName, cfg, *update)
}
