package radio_test

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

func TestMain(m *testing.M) {
	radiotest.ActAsProgram()
	hold()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// atOnce is how many tests run at once that wait for samples at their true speed, unless -parallel says it: more than there are
// processors.
const atOnce = "8"

// holdVariable names a source that this test binary opens and reads until it is killed.
const holdVariable = "HEIMDALL_TEST_HOLD"

// hold does not return where this process was started to be killed.
func hold() {
	source := os.Getenv(holdVariable)
	if source == "" {
		return
	}
	r, err := radio.Open(source, radio.Options{})
	if err != nil {
		os.Exit(3)
	}
	if _, err := r.Open(context.Background()); err != nil {
		os.Exit(4)
	}
	var b radio.Block
	for r.Read(context.Background(), &b) == nil {
	}
	os.Exit(5)
}
