package spool_test

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// child fills a spool until it is killed, and says on stdout what it was promised and what it acknowledged.
func child(dir string) {
	s, err := spool.Open(dir, spool.Options{Station: "torino"})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	ctx := context.Background()
	go s.Run(ctx)
	fmt.Println("open")
	go func() {
		for {
			item, err := s.Next(ctx)
			if err != nil {
				return
			}
			if rand.IntN(3) == 0 {
				fmt.Println("ack", item.Seq) // before, so that the parent never misses one
				s.Ack(item.Spool, protocol.Ranges{{From: item.Seq, To: item.Seq}})
			}
		}
	}()
	for worker := range 4 {
		go func() {
			lanes := spool.Lanes()
			for i := 0; ; i++ {
				lane := lanes[rand.IntN(len(lanes))]
				b := make([]byte, 20+rand.IntN(3000))
				for j := range b {
					b[j] = byte(rand.Uint32())
				}
				sum := crc32.ChecksumIEEE(b)
				seq, err := s.Put(ctx, lane, protocol.Kind(lane), b)
				if err != nil {
					fmt.Println("error", worker, err)
					os.Exit(1)
				}
				fmt.Println("put", seq, sum)
			}
		}()
	}
	select {}
}

// A record whose Put returned is there after kill -9, as it was, unless it was acknowledged; numbers have no hole and
// are never used twice.
func TestKill_NothingPromisedIsLost(t *testing.T) {
	kills := spool.Kills
	if testing.Short() {
		kills = 15
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	promised := map[uint64]uint32{}
	acked := map[uint64]bool{}
	for round := range kills {
		runChild(t, dir, time.Duration(2+random.IntN(40))*time.Millisecond, promised, acked)
		held := map[uint64]uint32{}
		err := spool.List(dir, func(lane spool.Lane, item spool.Item, err error) error {
			if err != nil {
				t.Errorf("round %d: record %d in %s: %v", round, item.Seq, lane, err)
			}
			if _, twice := held[item.Seq]; twice {
				t.Errorf("round %d: number %d twice", round, item.Seq)
			}
			held[item.Seq] = crc32.ChecksumIEEE(item.Payload)
			return nil
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for seq, sum := range promised {
			got, ok := held[seq]
			if !ok && !acked[seq] {
				t.Fatalf("round %d: record %d was promised and is lost", round, seq)
			}
			if ok && got != sum {
				t.Fatalf("round %d: record %d is not what was put", round, seq)
			}
		}
		st, err := spool.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= st.LastSeq; seq++ {
			if _, ok := held[seq]; !ok && !acked[seq] {
				t.Fatalf("round %d: number %d of %d is neither held nor acknowledged", round, seq, st.LastSeq)
			}
		}
	}
	check(t, dir)
	t.Logf("%d kills, %d records promised, %d acknowledged", kills, len(promised), len(acked))
	if len(promised) < kills {
		t.Errorf("only %d records in %d rounds: the test tests nothing", len(promised), kills)
	}
}

func runChild(t *testing.T, dir string, life time.Duration, promised map[uint64]uint32, acked map[uint64]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SPOOL_TEST_CHILD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		var seq uint64
		var sum uint32
		switch line := lines.Text(); {
		case line == "open":
			timer = time.AfterFunc(life, func() { cmd.Process.Kill() })
		case scan(line, "put %d %d", &seq, &sum):
			if _, twice := promised[seq]; twice {
				t.Errorf("number %d given twice", seq)
			}
			promised[seq] = sum
		case scan(line, "ack %d", &seq):
			acked[seq] = true
		default:
			t.Errorf("child says %q", line) // a line cut short by the kill is no line for the scanner's caller but the last
		}
	}
	if timer != nil {
		timer.Stop()
	}
	cmd.Process.Kill()
	cmd.Wait()
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}
