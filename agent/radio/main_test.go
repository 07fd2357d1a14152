package radio_test

import (
	"os"
	"testing"

	"github.com/fulgidus/heimdall/agent/radio/radiotest"
)

func TestMain(m *testing.M) {
	radiotest.ActAsProgram()
	os.Exit(m.Run())
}
