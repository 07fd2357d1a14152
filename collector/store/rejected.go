package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// rejectedBytes is the most that is kept of a rejected payload.
	rejectedBytes = 64 << 10
	// rejectedPerDay is how many payloads are kept of one station in 24 hours. Beyond it, those without a number are not
	// kept at all, and numbered ones, which must be accounted for, without their payload.
	rejectedPerDay = 1000
)

// refusal is a rejection on its way into the table. It never fails to be stored, or it would block its batch.
type refusal struct {
	protocol.Rejection
	numbered bool
	stream   protocol.Stream // when numbered
	digest   [8]byte         // of the payload
}

func newRefusals(rejected []protocol.Rejection) []refusal {
	refusals := make([]refusal, len(rejected))
	for i, r := range rejected {
		sum := sha256.Sum256(r.Payload)
		f := refusal{Rejection: r, digest: [8]byte(sum[:8])}
		f.Reason, f.Kind = storableText(r.Reason), protocol.Kind(storableText(string(r.Kind)))
		if protocol.ValidStation(r.Station) == nil && len(r.Spool) == protocol.SpoolBytes && r.Seq > 0 && r.Seq <= protocol.MaxSeq {
			f.numbered = true
			f.stream = protocol.Stream{Station: r.Station, Spool: [protocol.SpoolBytes]byte(r.Spool)}
		}
		f.Station = storableText(r.Station)
		refusals[i] = f
	}
	return refusals
}

// storableText is text as every database stores it.
func storableText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�")
}

// reject stores the rejections that are not in yet, and enters those with a number in the ledgers.
func (c *commit) reject(ctx context.Context) error {
	var keep []refusal
	seen := make(map[string]bool)
	for _, r := range c.refusals {
		if r.numbered {
			l := c.ledgers[r.stream]
			if l.received.Contains(r.Seq) || l.rejected.Contains(r.Seq) {
				continue
			}
			l.rejected.Add(r.Seq)
			keep = append(keep, r)
			continue
		}
		key := fmt.Sprintf("%s %x", r.Station, r.digest)
		known := seen[key]
		if !known {
			seen[key] = true
			keep = append(keep, r)
		}
	}
	room := make(map[string]int)
	for _, r := range keep {
		if _, ok := room[r.Station]; !ok {
			kept, err := c.keptToday(ctx, r.Station)
			if err != nil {
				return err
			}
			room[r.Station] = rejectedPerDay - kept
		}
		if err := c.storeRefusal(ctx, r, room); err != nil {
			return wrap(err, "insert into rejected")
		}
	}
	return nil
}

func (c *commit) keptToday(ctx context.Context, station string) (int, error) {
	var n int
	err := c.db.queryRow(ctx, c.tx, "SELECT count(*) FROM rejected WHERE station = $1 AND received > $2 AND payload IS NOT NULL",
		station, c.received.Add(-24*time.Hour)).Scan(&n)
	return n, wrap(err, "count rejections of %s", station)
}

func (c *commit) storeRefusal(ctx context.Context, r refusal, room map[string]int) error {
	payload := r.Payload[:min(len(r.Payload), rejectedBytes)]
	if room[r.Station] <= 0 {
		if !r.numbered {
			return nil
		}
		payload = nil
	} else if payload == nil {
		payload = []byte{}
	}
	var spool []byte
	var seq sql.NullInt64
	if r.numbered {
		spool, seq = r.Spool, sql.NullInt64{Int64: int64(r.Seq), Valid: true}
	}
	var at *time.Time
	var ns sql.NullInt16
	if r.Time != 0 {
		t, rest := micros(r.Time)
		at, ns = &t, sql.NullInt16{Int16: rest, Valid: true}
	}
	result, err := c.db.exec(ctx, c.tx, `INSERT INTO rejected (time, time_ns, station, spool, seq, digest, received, kind, reason, bytes, payload)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		at, ns, r.Station, spool, seq, r.digest[:], c.received, string(r.Kind), r.Reason, len(r.Payload), payload)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		room[r.Station]--
	}
	return nil
}
