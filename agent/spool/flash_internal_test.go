package spool

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// writtenBytes is what commits have written to the file: the pages that they made, and one meta page each.
func writtenBytes(s *Spool) int64 {
	stats := s.store.db.Stats()
	return stats.TxStats.GetPageAlloc() + int64(s.Stats().Commits)*int64(os.Getpagesize())
}

// defaultPlan is a station at work for some time: a measurement a second, a spectrum of 1024 bins each 10 s, health each
// minute, a detection each 10 min, and a collector that acknowledges everything within a quarter of a second.
func defaultPlan(ctx context.Context, t *testing.T, s *Spool, took time.Duration) {
	t.Helper()
	put := func(lane Lane, size int) {
		if _, err := s.Queue(ctx, lane, protocol.Kind(lane), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	for second := range int(took / time.Second) {
		put(LaneMeasurement, 130)
		if second%10 == 0 {
			put(LaneSpectrum, 700)
		}
		if second%60 == 0 {
			put(LaneHealth, 250)
		}
		if second%600 == 0 {
			put(LaneDetection, 150)
		}
		for range 4 {
			time.Sleep(time.Second / 4)
			s.Ack(s.Identity(), handOut(s))
		}
	}
}

// At most 1 GB a day goes to flash at the default plan with the link up, and no more after an outage of OutageRecords.
// What a file system adds to that is not in it; TestFlash_KernelCountsNoMore is about what the kernel counts.
func TestFlash_BytesADay(t *testing.T) {
	backlog := OutageRecords
	if testing.Short() {
		backlog = 100000
	}
	for name, backlog := range map[string]int{"always up": 0, "after a backlog": backlog} {
		t.Run(name, func(t *testing.T) {
			keepBubble(t, func(ctx context.Context, s *Spool) {
				s.store.db.NoSync = true // nothing is proved here about what survives
				for range backlog / 10000 {
					queueSome(t, s, LaneMeasurement, 9000, 130)
					queueSome(t, s, LaneSpectrum, 1000, 700)
					time.Sleep(time.Second)
				}
				s.SetLinkUp(true)
				for left := backlog; left > 0; {
					var out protocol.Ranges
					for range min(left, 1000) {
						item, ok := s.find()
						if !ok {
							t.Fatalf("nothing to hand out, %d left", left)
						}
						out.Add(item.Seq)
						left--
					}
					s.Ack(s.Identity(), out)
					time.Sleep(20 * time.Millisecond)
				}
				defaultPlan(ctx, t, s, 80*time.Minute) // until as much leaves as comes
				synctest.Wait()
				before, commits := writtenBytes(s), s.Stats().Commits
				const stretch = 20 * time.Minute
				defaultPlan(ctx, t, s, stretch)
				day := float64(writtenBytes(s)-before) * float64(24*time.Hour/stretch)
				n := s.Stats().Commits - commits
				t.Logf("%.2f GB a day, %.1f KiB a commit, %d kept", day/1e9, float64(writtenBytes(s)-before)/1024/float64(n), s.Stats().Kept)
				if day > 1e9 {
					t.Errorf("%.2f GB a day, want at most 1", day/1e9)
				}
			})
		})
	}
}
