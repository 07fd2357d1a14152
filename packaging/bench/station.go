//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/link"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// The station's settings: those of the agent where it has some.
const (
	memoryLimit = 20 << 20 // the agent's aim with one receiver, beside its history
	// singleWindow is for one record a message, where a window of 64 would be 64 records; the publisher for Telegraf has as many.
	singleWindow = 4000
	burstRecords = 4000 // are queued before one waits for the disk
)

// stationJob is what the role "station" does: the agent's spool and link, wired as the agent wires them, and instead of a
// survey the load.
type stationJob struct {
	dir     string
	broker  string // empty: only fill the spool
	records int
	rate    float64 // records/s; 0: as fast as the spool takes them
	single  bool    // one record a message
	times   string  // file for when each record was made and durable, with a rate
}

func runStation(ctx context.Context, args []string) error {
	var job stationJob
	flags := flag.NewFlagSet("station", flag.ContinueOnError)
	flags.StringVar(&job.dir, "dir", "", "")
	flags.StringVar(&job.broker, "broker", "", "")
	flags.IntVar(&job.records, "records", 0, "")
	flags.Float64Var(&job.rate, "rate", 0, "")
	flags.BoolVar(&job.single, "single", false, "")
	flags.StringVar(&job.times, "times", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return job.run(ctx)
}

// outbox shows the spool to the link.
type outbox struct{ *spool.Spool }

func (o outbox) Next(ctx context.Context) (link.Item, error) {
	item, err := o.Spool.Next(ctx)
	return link.Item(item), err
}

func (j stationJob) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	load, err := payloads(0, j.records)
	if err != nil {
		return err
	}
	if j.records == 0 {
		debug.SetMemoryLimit(memoryLimit) // else the load itself is in memory
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := spool.Open(j.dir, spool.Options{Station: station, Log: log})
	if err != nil {
		return fmt.Errorf("open the spool: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) }) // what it could not write, Close tells
	err = j.work(ctx, &wg, s, load, log)
	cancel()
	wg.Wait()
	return errors.Join(err, s.Close())
}

func (j stationJob) work(ctx context.Context, wg *sync.WaitGroup, s *spool.Spool, load [][]byte, log *slog.Logger) error {
	in := bufio.NewScanner(os.Stdin)
	if j.broker != "" {
		config := link.Config{
			Station: station, URL: j.broker, Single: j.single, Queue: outbox{s}, Settler: s,
			Handler: func(context.Context, *protocol.Command) {}, Answer: func(context.Context, *protocol.Reply) {}, Log: log,
		}
		if j.single {
			config.WindowMessages, config.WindowBytes = singleWindow, singleWindow*protocol.MaxTextBytes
		}
		l, err := link.New(config)
		if err != nil {
			return fmt.Errorf("make the link: %w", err)
		}
		if j.records == 0 { // a drain begins with the connection
			if err := await(in, s); err != nil {
				return err
			}
		}
		wg.Go(func() { _ = l.Run(ctx) }) // which ends with the context only
		if err := until(ctx, func() bool { return l.Connected() && l.CollectorOnline() }); err != nil {
			return fmt.Errorf("wait for a collector: %w", err)
		}
	}
	if j.records > 0 {
		if err := await(in, s); err != nil {
			return err
		}
	}
	if err := j.put(ctx, s, load); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "put")
	if j.broker == "" {
		return nil
	}
	if err := until(ctx, func() bool { return s.Unacked().Empty() }); err != nil {
		return fmt.Errorf("wait for the acknowledgements: %w", err)
	}
	fmt.Fprintln(os.Stdout, "settled")
	for in.Scan() { // until the other end closes
	}
	return nil
}

// await says that all is ready, and waits for the word to begin.
func await(in *bufio.Scanner, s *spool.Spool) error {
	fmt.Fprintf(os.Stdout, "ready %x\n", s.Identity())
	if !in.Scan() {
		return fmt.Errorf("wait for the word: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// until polls a condition.
func until(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (j stationJob) put(ctx context.Context, s *spool.Spool, load [][]byte) error {
	if j.rate > 0 {
		return j.putPaced(ctx, s, load)
	}
	return putAll(ctx, s, load)
}

// putAll puts records as fast as the spool takes them and returns when all are durable.
func putAll(ctx context.Context, s *spool.Spool, load [][]byte) error {
	for i, payload := range load {
		put := s.Queue
		if (i+1)%burstRecords == 0 || i+1 == len(load) {
			put = s.Put
		}
		if _, err := put(ctx, spool.LaneMeasurement, protocol.KindMeasurement, payload); err != nil {
			return fmt.Errorf("put record %d: %w", i, err)
		}
	}
	return nil
}

// instants are when a record was made and when it was durable.
type instants struct {
	seq           uint64
	made, durable time.Time
}

// putPaced puts records at a steady rate, each by somebody who waits for its commit, and writes down when that was.
func (j stationJob) putPaced(ctx context.Context, s *spool.Spool, load [][]byte) error {
	all := make([]instants, len(load))
	failed := make(chan error, len(load)) // each may
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for next := 0; next < len(load); {
		<-tick.C
		for due := min(len(load), int(time.Since(began).Seconds()*j.rate)); next < due; next++ {
			i := next
			wg.Go(func() {
				made := time.Now()
				seq, err := s.Put(ctx, spool.LaneMeasurement, protocol.KindMeasurement, load[i])
				if err != nil {
					failed <- fmt.Errorf("put record %d: %w", i, err)
				}
				all[i] = instants{seq, made, time.Now()}
			})
		}
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return writeTimes(j.times, all)
	}
}

func writeTimes(path string, all []instants) error {
	var text bytes.Buffer
	for _, t := range all {
		fmt.Fprintln(&text, t.seq, t.made.UnixNano(), t.durable.UnixNano())
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write down when records were durable: %w", err)
	}
	return nil
}

// readTimes reads what writeTimes wrote, by number.
func readTimes(path string) (map[uint64]instants, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read when records were durable: %w", err)
	}
	defer file.Close()
	all := make(map[uint64]instants)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var seq uint64
		var made, durable int64
		if _, err := fmt.Sscan(lines.Text(), &seq, &made, &durable); err != nil {
			return nil, fmt.Errorf("read when records were durable: %w", err)
		}
		all[seq] = instants{seq, time.Unix(0, made), time.Unix(0, durable)}
	}
	return all, nil
}
