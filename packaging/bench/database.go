//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fulgidus/heimdall/protocol"
)

// stuckAfter is how long a table may stay as it is before the run is given up.
const stuckAfter = 30 * time.Second

// database is an empty database for one run.
type database struct {
	url  string
	conn *pgx.Conn
}

func (w *world) newDatabase(ctx context.Context) (*database, error) {
	w.databases++
	name := fmt.Sprintf("run%d", w.databases)
	if err := w.postgres.SQL(ctx, "create database "+name); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, w.postgres.URL(name))
	if err != nil {
		return nil, fmt.Errorf("connect to database %s: %w", name, err)
	}
	return &database{w.postgres.URL(name), conn}, nil
}

// waitRows waits until a table has n rows. It counts only when the table has stopped growing: counting a large one all the
// time would be part of what is measured.
func (d *database) waitRows(ctx context.Context, table string, n int) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	size, since := int64(-1), time.Now()
	for {
		var now *int64 // null: there is no table yet
		if err := d.conn.QueryRow(ctx, "select pg_relation_size(to_regclass($1))", table).Scan(&now); err != nil {
			return fmt.Errorf("look for %s: %w", table, err)
		}
		switch {
		case now != nil && *now == size:
			rows := 0
			if err := d.conn.QueryRow(ctx, "select count(*) from "+table).Scan(&rows); err != nil {
				return fmt.Errorf("count %s: %w", table, err)
			}
			if rows >= n {
				return nil
			}
			if time.Since(since) > stuckAfter {
				return fmt.Errorf("%s stays at %d of %d rows", table, rows, n)
			}
		case now != nil:
			size, since = *now, time.Now()
		case time.Since(since) > stuckAfter:
			return fmt.Errorf("there is no table %s", table)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lastCommit is when the last row of a table was committed, by the server's own account, and in how many commits all were.
func (d *database) lastCommit(ctx context.Context, table string) (at time.Time, commits int, err error) {
	err = d.conn.QueryRow(ctx, "select max(pg_xact_commit_timestamp(tx::xid)), count(*) from (select distinct xmin::text as tx from "+table+") t").
		Scan(&at, &commits)
	if err != nil {
		return at, 0, fmt.Errorf("ask when %s was complete: %w", table, err)
	}
	return at, commits, nil
}

// commits are when each record was committed, by its number.
func (d *database) commits(ctx context.Context) (map[uint64]time.Time, error) {
	rows, err := d.conn.Query(ctx, "select seq, pg_xact_commit_timestamp(xmin) from measurement")
	if err != nil {
		return nil, fmt.Errorf("ask when records were committed: %w", err)
	}
	all := make(map[uint64]time.Time)
	var seq uint64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&seq, &at}, func() error {
		all[seq] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask when records were committed: %w", err)
	}
	return all, nil
}

// check compares every row with the record it came from: each of n records once, all its numbers, and where there is one
// the digest, which covers the whole record with its identity.
func (d *database) check(ctx context.Context, n int, digests bool, spool string) error {
	digest := "null::bytea"
	if digests {
		digest = "digest"
	}
	identity, err := hex.DecodeString(spool)
	if err != nil {
		return fmt.Errorf("identity of the spool: %w", err)
	}
	rows, err := d.conn.Query(ctx, `select seq::bigint, time, `+digest+`, power_dbfs, snr_db, noise_floor_dbfs_hz, dc_i,
		peak_hz, occupied_low_hz, occupied_high_hz, occupied_bandwidth_hz from measurement`)
	if err != nil {
		return fmt.Errorf("read the rows: %w", err)
	}
	seen := make([]bool, n)
	var seq int64
	var at time.Time
	var sum []byte
	var power, snr, floor, dc, peak, low, high, width float64
	count := 0
	_, err = pgx.ForEachRow(rows, []any{&seq, &at, &sum, &power, &snr, &floor, &dc, &peak, &low, &high, &width}, func() error {
		i := int(at.Sub(loadBegin.Truncate(time.Second)) / time.Second)
		if i < 0 || i >= n || seen[i] {
			return fmt.Errorf("row %d, of %s, is there twice or was never sent", seq, at)
		}
		seen[i] = true
		count++
		rec := measurement(i)
		m := rec.GetMeasurement()
		same := time.Unix(0, rec.GetTime()).Truncate(time.Microsecond).Equal(at) &&
			m.GetPeakHz() == peak && m.GetOccupiedLowHz() == low && m.GetOccupiedHighHz() == high && m.GetOccupiedBandwidthHz() == width
		for got, want := range map[float64]float32{power: m.GetPowerDbfs(), snr: m.GetSnrDb(), floor: m.GetNoiseFloorDbfsHz(), dc: m.GetDcI()} {
			same = same && float32(got) == want
		}
		if digests {
			rec.Spool, rec.Seq = identity, new(uint64(seq))
			want := protocol.Digest(rec)
			same = same && string(sum) == string(want[:])
		}
		if !same {
			return fmt.Errorf("row %d is not the record that was sent", seq)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check the rows: %w", err)
	}
	if count != n {
		return fmt.Errorf("check the rows: %d of %d records are there", count, n)
	}
	return nil
}

// drop removes the database, so that its pages are in nobody's way.
func (w *world) drop(ctx context.Context, d *database) error {
	var name string
	if err := d.conn.QueryRow(ctx, "select current_database()").Scan(&name); err != nil {
		return fmt.Errorf("name the database: %w", err)
	}
	if err := d.conn.Close(ctx); err != nil {
		return fmt.Errorf("leave database %s: %w", name, err)
	}
	return w.postgres.SQL(ctx, "drop database "+name+" with (force)")
}

// percentile of sorted values.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
