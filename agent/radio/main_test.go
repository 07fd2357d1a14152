package radio_test

import (
	"context"
	"os"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

func TestMain(m *testing.M) {
	radiotest.ActAsProgram()
	hold()
	os.Exit(m.Run())
}

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
