//go:build faults

package oracle_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fulgidus/heimdall/packaging/oracle"
	"github.com/fulgidus/heimdall/protocol"
)

type fixed [protocol.SpoolBytes]byte

func (f fixed) Identity() [protocol.SpoolBytes]byte { return f }

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oracle")
	t.Setenv("HEIMDALL_ORACLE", path)
	spool := fixed{1, 2, 3}
	oracle.Give(spool, protocol.KindMeasurement, []byte("first")).Took(1, false)
	oracle.Give(spool, protocol.KindReply, []byte("second")).Took(2, true)
	oracle.Give(spool, protocol.KindHealth, []byte("never numbered")).Took(0, false)
	oracle.Commit(spool, 2)
	log, err := oracle.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Records) != 3 || len(log.Commits) != 1 || log.Processes != 1 {
		t.Fatalf("%+v", log)
	}
	first, second, last := log.Records[0], log.Records[1], log.Records[2]
	if string(first.Payload) != "first" || first.Seq != 1 || first.Put || first.Kind != protocol.KindMeasurement || first.Spool != spool {
		t.Errorf("%+v", first)
	}
	if second.Seq != 2 || !second.Put || second.Taken <= first.Taken {
		t.Errorf("%+v", second)
	}
	if last.Taken != 0 || string(last.Payload) != "never numbered" {
		t.Errorf("%+v", last)
	}
	if c := log.Commits[0]; c.Seq != 2 || c.Spool != spool {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
