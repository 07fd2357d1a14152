//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// flow is what a run of many records gave.
type flow struct {
	rate     float64 // records/s, from the first one given to the last one committed
	commits  float64 // records in one
	cpu      cpu     // a record
	readerMB float64 // resident at most: Telegraf or the collector
}

// cpu is the processor time in µs that each process on the way uses: sender, broker, Telegraf or collector, database.
type cpu struct{ sender, broker, reader, database float64 }

func (c cpu) total() float64 { return c.sender + c.broker + c.reader + c.database }

func (w *world) usedCPU(sender, reader *child) cpu {
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) }
	return cpu{us(sender.cpu()), us(processCPU(w.broker.PID())), us(reader.cpu()), us(familyCPU(w.postgres.PID()))}
}

// since is what was used since before, for each of n records.
func (c cpu) since(before cpu, n int) cpu {
	per := func(now, before float64) float64 { return (now - before) / float64(n) }
	return cpu{
		per(c.sender, before.sender), per(c.broker, before.broker), per(c.reader, before.reader), per(c.database, before.database),
	}
}

// withReader runs what needs a fresh database and a program that fills it, and ends both.
func (w *world) withReader(ctx context.Context, start func(context.Context, string) (*child, error), do func(*database, *child) error) error {
	db, err := w.newDatabase(ctx)
	if err != nil {
		return err
	}
	reader, err := start(ctx, db.url)
	if err != nil {
		return err
	}
	err = do(db, reader)
	return errors.Join(err, reader.stop(), w.drop(ctx, db))
}

// telegraf measures the peer on the load, live.
func (w *world) telegraf(ctx context.Context, n int) (f flow, err error) {
	err = w.withReader(ctx, w.startTelegraf, func(db *database, reader *child) error {
		sender, err := self(ctx, w.path("publisher.log"), "publish", "-broker", w.broker.Addr, "-records", strconv.Itoa(n))
		if err != nil {
			return err
		}
		f, err = w.measure(ctx, db, sender, reader, n, false)
		return errors.Join(err, sender.finish())
	})
	return f, err
}

// heimdall measures the whole way from the agent's spool on the same load, live.
func (w *world) heimdall(ctx context.Context, n int, single bool) (f flow, err error) {
	err = w.withReader(ctx, w.startCollector, func(db *database, reader *child) error {
		sender, err := w.station(ctx, w.path("spool"), "-broker", w.broker.URL, "-records", strconv.Itoa(n), fmt.Sprintf("-single=%t", single))
		if err != nil {
			return err
		}
		f, err = w.measure(ctx, db, sender, reader, n, true)
		return errors.Join(err, sender.finish())
	})
	return f, err
}

func (w *world) station(ctx context.Context, dir string, args ...string) (*child, error) {
	return self(ctx, w.path("station.log"), "station", append([]string{"-dir", dir}, args...)...)
}

// measure lets the sender begin, waits for the last row and checks all of them.
func (w *world) measure(ctx context.Context, db *database, sender, reader *child, n int, digests bool) (f flow, err error) {
	spool, err := sender.expect("ready")
	if err != nil {
		return f, err
	}
	before := w.usedCPU(sender, reader)
	began, err := sender.tell("go")
	if err != nil {
		return f, err
	}
	if _, err := sender.expect("put"); err != nil {
		return f, err
	}
	if err := db.waitRows(ctx, "measurement", n); err != nil {
		return f, fmt.Errorf("%w; %s says:\n%s", err, reader.name, reader.tail())
	}
	ended, commits, err := db.lastCommit(ctx, "measurement")
	if err != nil {
		return f, err
	}
	if digests {
		if _, err := sender.expect("settled"); err != nil {
			return f, err
		}
	}
	f = flow{
		rate:     float64(n) / ended.Sub(began).Seconds(),
		commits:  float64(n) / float64(commits),
		cpu:      w.usedCPU(sender, reader).since(before, n),
		readerMB: float64(reader.memory("VmHWM")) / 1e6,
	}
	return f, db.check(ctx, n, digests, spool)
}

// delays are times in milliseconds: 50th, 95th and 99th percentile.
type delays [3]float64

func percentiles(all []float64) delays {
	slices.Sort(all)
	return delays{percentile(all, 0.50), percentile(all, 0.95), percentile(all, 0.99)}
}

// latency measures how long records take at a steady rate: from made to committed in the database, and from committed in
// the spool.
func (w *world) latency(ctx context.Context, rate float64, span time.Duration) (made, spooled delays, err error) {
	n, times := int(rate*span.Seconds()), w.path("times")
	var stored map[uint64]instants
	var commits map[uint64]time.Time
	err = w.withReader(ctx, w.startCollector, func(db *database, collector *child) error {
		sender, err := w.station(ctx, w.path("spool"), "-broker", w.broker.URL,
			"-records", strconv.Itoa(n), "-rate", strconv.FormatFloat(rate, 'f', -1, 64), "-times", times)
		if err != nil {
			return err
		}
		if _, err = w.measure(ctx, db, sender, collector, n, true); err == nil {
			stored, err = readTimes(times)
		}
		if err == nil {
			commits, err = db.commits(ctx)
		}
		return errors.Join(err, sender.finish())
	})
	var fromMade, fromSpooled []float64
	for seq, at := range commits {
		fromMade = append(fromMade, at.Sub(stored[seq].made).Seconds()*1000)
		fromSpooled = append(fromSpooled, at.Sub(stored[seq].durable).Seconds()*1000)
	}
	return percentiles(fromMade), percentiles(fromSpooled), err
}

// drained is what draining a backlog gave.
type drained struct {
	seconds                float64
	agentMB, agentAnonMB   float64 // resident at most while it drains, and of that what is not of files
	agentOpenMB            float64 // resident for a moment when it opened the spool, whose pages the database looks at then
	collectorMB            float64
	payload                float64 // bytes a record
	messages               int
	writtenMB              float64 // by the agent
	commits                float64 // records in one
	cpu                    cpu
	fillSeconds, spoolSize float64 // of the filling before, and MB on disk
}

// drain fills a spool with n records, then measures how a fresh process delivers them to a fresh collector.
func (w *world) drain(ctx context.Context, n int, listen bool) (d drained, err error) {
	dir := w.path("spool")
	if err := w.fill(ctx, dir, n, &d); err != nil {
		return d, err
	}
	var counter *counter
	if listen {
		if counter, err = w.listen(); err != nil {
			return d, err
		}
		defer counter.stop()
	}
	err = w.withReader(ctx, w.startCollector, func(db *database, collector *child) error {
		sender, err := w.station(ctx, dir, "-broker", w.broker.URL)
		if err != nil {
			return err
		}
		err = w.watchDrain(ctx, db, sender, collector, n, &d)
		return errors.Join(err, sender.finish())
	})
	if listen {
		all := counter.total("batch", "measurement")
		d.payload, d.messages = float64(all.bytes)/float64(n), all.messages
	}
	return d, errors.Join(err, os.RemoveAll(dir))
}

// fill puts n records into a spool that nobody delivers.
func (w *world) fill(ctx context.Context, dir string, n int, d *drained) error {
	filler, err := w.station(ctx, dir, "-records", strconv.Itoa(n))
	if err != nil {
		return err
	}
	if _, err := filler.expect("ready"); err != nil {
		return err
	}
	began, err := filler.tell("go")
	if err != nil {
		return err
	}
	if _, err := filler.expect("put"); err != nil {
		return err
	}
	d.fillSeconds = time.Since(began).Seconds()
	if err := filler.finish(); err != nil {
		return err
	}
	size, err := folderBytes(dir)
	d.spoolSize = float64(size) / 1e6
	return err
}

func (w *world) watchDrain(ctx context.Context, db *database, sender, collector *child, n int, d *drained) error {
	spool, err := sender.expect("ready")
	if err != nil {
		return err
	}
	if err := db.waitRows(ctx, "measurement", 0); err != nil {
		return err
	}
	watched, stop := context.WithCancel(ctx)
	most := make(chan [2]int64, 1) // resident, and not of files; told once
	go func() {
		var seen [2]int64
		_ = until(watched, func() bool { // ends with the context
			seen = [2]int64{max(seen[0], sender.memory("VmRSS")), max(seen[1], sender.memory("RssAnon"))}
			return false
		})
		most <- seen
	}()
	before, writtenBefore := w.usedCPU(sender, collector), sender.written()
	began, err := sender.tell("go")
	if err == nil {
		err = db.waitRows(ctx, "measurement", n)
	}
	if err == nil {
		_, err = sender.expect("settled")
	}
	stop()
	seen := <-most
	d.agentMB, d.agentAnonMB = float64(seen[0])/1e6, float64(seen[1])/1e6
	if err != nil {
		return fmt.Errorf("%w; the station says:\n%s\nthe collector says:\n%s", err, sender.tail(), collector.tail())
	}
	d.cpu = w.usedCPU(sender, collector).since(before, n)
	ended, commits, err := db.lastCommit(ctx, "measurement")
	if err != nil {
		return err
	}
	d.commits = float64(n) / float64(commits)
	d.seconds = ended.Sub(began).Seconds()
	d.agentOpenMB, d.collectorMB = float64(sender.memory("VmHWM"))/1e6, float64(collector.memory("VmHWM"))/1e6
	d.writtenMB = float64(sender.written()-writtenBefore) / 1e6
	return db.check(ctx, n, true, spool)
}
