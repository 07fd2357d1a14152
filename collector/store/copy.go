package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// copyRows is from how many rows on COPY is the faster way.
const copyRows = 32

// errThere says that a row which was to be new is there already: its spool's ledger does not know of it.
var errThere = errors.New("a row is there that its ledger does not know of")

// COPY's binary format: a signature, flags and the length of an extension, then each row as the number of its fields and
// each field after its length, then a row of -1 fields.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// copyIn adds rows that are known to be new. It fails with errThere where one is there after all.
func copyIn(ctx context.Context, tx transaction, t *table, rows []*entry) error {
	data, err := t.copyData(rows)
	if err != nil {
		return err
	}
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = `"` + f.name + `"`
	}
	statement := fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", t.name, strings.Join(names, ", "))
	err = tx.conn.Raw(func(conn any) error {
		_, err := conn.(*stdlib.Conn).Conn().PgConn().CopyFrom(ctx, bytes.NewReader(data), statement)
		return err
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == uniqueViolation {
		return errThere
	}
	return err
}

const uniqueViolation = "23505"

func (t *table) copyable() bool {
	for _, f := range t.fields {
		if f.copy == nil {
			return false
		}
	}
	return true
}

func (t *table) copyData(rows []*entry) (b []byte, err error) {
	const cell = 12 // bytes, about
	b = append(make([]byte, 0, len(rows)*len(t.fields)*cell), copyHeader...)
	for _, e := range rows {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.fields)))
		for _, f := range t.fields {
			if b, err = f.copy(b, e); err != nil {
				return nil, err
			}
		}
	}
	return append(b, copyTrailer...), nil
}

// copyCell is how cells of T are copied; nil where the column is not of T but cast from it.
func copyCell[T any](get func(e *entry) (*T, error), cast string) func(b []byte, e *entry) ([]byte, error) {
	switch cast {
	case "":
		return func(b []byte, e *entry) ([]byte, error) {
			v, err := get(e)
			if v == nil {
				return appendNull(b), err
			}
			return appendCell(b, v), err
		}
	case "::jsonb":
		return func(b []byte, e *entry) ([]byte, error) {
			v, err := get(e)
			text, ok := any(v).(*string)
			if v == nil || !ok {
				return appendNull(b), err
			}
			const version = 1 // of the text that follows
			return append(append(appendLength(b, 1+len(*text)), version), *text...), err
		}
	}
	return nil
}

func appendLength(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, math.MaxUint32) }

// postgresEpoch is where PostgreSQL counts its microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// appendCell appends a value that v points to, with its length before it.
func appendCell(b []byte, v any) []byte {
	switch v := v.(type) {
	case *float64:
		return binary.BigEndian.AppendUint64(appendLength(b, 8), math.Float64bits(*v))
	case *float32:
		return binary.BigEndian.AppendUint32(appendLength(b, 4), math.Float32bits(*v))
	case *int64:
		return binary.BigEndian.AppendUint64(appendLength(b, 8), uint64(*v))
	case *int16:
		return binary.BigEndian.AppendUint16(appendLength(b, 2), uint16(*v))
	case *time.Time:
		return binary.BigEndian.AppendUint64(appendLength(b, 8), uint64(v.UnixMicro()-postgresEpoch))
	case *string:
		return append(appendLength(b, len(*v)), *v...)
	case *bool:
		if *v {
			return append(appendLength(b, 1), 1)
		}
		return append(appendLength(b, 1), 0)
	}
	panic(fmt.Sprintf("no binary form of %T", v)) // a new kind of column: the tests store every one
}
