package oracle_test

import (
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/packaging/oracle"
)

// TestRead_Killed reads what processes leave that were killed in the middle of a line, wherever the cut was.
func TestRead_Killed(t *testing.T) {
	const whole = "\nstart 7 .\ngive 1 measurement Zmlyc3Q= .\ntook 1 0102030405060708 12 put .\n"
	const next = "\nstart 8 .\ngive 1 health c2Vjb25k .\n"
	for cut := range len(whole) + 1 {
		log, err := oracle.Read(strings.NewReader(whole[:cut] + next))
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
		last := log.Records[len(log.Records)-1]
		if string(last.Payload) != "second" || last.Taken != 0 {
			t.Errorf("cut after %d bytes: the next process: %+v", cut, last)
		}
		if first := log.Records[0]; len(log.Records) == 2 && first.Taken != 0 && (first.Seq != 12 || !first.Put) {
			t.Errorf("cut after %d bytes: half a line was believed: %+v", cut, first)
		}
	}
}

func TestRead_Nonsense(t *testing.T) {
	for _, text := range []string{
		"hello .\n", "took 1 0102030405060708 12 put .\n", "give 1 health !!! .\n", "commit 01 5 .\n", "commit 0102030405060708 x .\n",
	} {
		if log, err := oracle.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %+v", text, log)
		}
	}
}
