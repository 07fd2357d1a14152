package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/protocol"
)

// entry is a record on its way into a table.
type entry struct {
	rec      *protocol.Record
	stream   protocol.Stream
	seq      uint64
	digest   [8]byte
	time     time.Time // to the microsecond
	timeNS   int16     // the nanoseconds beyond
	received *time.Time
}

// field is one column of a table that holds records: how to take it from a record and how to put it back.
type field struct {
	name string
	// values makes an empty list for n rows.
	values func(n int) values
	// target is where a value that was read goes; nil for a column that is not read back.
	target func(rec *protocol.Record) any
	// asText reads the column as text: sets of numbers and JSON.
	asText bool
	// copy appends a cell as COPY's binary format wants it; nil where there is no such form.
	copy func(b []byte, e *entry) ([]byte, error)
}

// column is one column of the rows of an insert.
type column struct {
	name   string
	values values
}

// values is a column's cells, one a row.
type values interface {
	add(e *entry) error
	len() int
	// at is one cell for a driver; nil is NULL.
	at(row int) any
	// array is all cells as one array for pgx; sqlType is the array's element type in PostgreSQL, and the cast from there to
	// the column's type.
	array() any
	sqlType() (element, cast string)
}

// cells is a column of T; nil is NULL.
type cells[T any] struct {
	get           func(e *entry) (*T, error)
	element, cast string
	rows          []*T
}

func (c *cells[T]) add(e *entry) error {
	v, err := c.get(e)
	c.rows = append(c.rows, v)
	return err
}

func (c *cells[T]) len() int   { return len(c.rows) }
func (c *cells[T]) array() any { return c.rows }

func (c *cells[T]) at(row int) any {
	if c.rows[row] == nil {
		return nil
	}
	return *c.rows[row]
}

func (c *cells[T]) sqlType() (element, cast string) { return c.element, c.cast }

// blobs is a column of bytes; nil is NULL.
type blobs struct {
	get  func(e *entry) ([]byte, error)
	rows [][]byte
}

func (c *blobs) add(e *entry) error {
	v, err := c.get(e)
	c.rows = append(c.rows, v)
	return err
}

func (c *blobs) len() int   { return len(c.rows) }
func (c *blobs) array() any { return c.rows }

func (c *blobs) at(row int) any {
	if c.rows[row] == nil {
		return nil
	}
	return c.rows[row]
}

func (c *blobs) sqlType() (element, cast string) { return "bytea", "" }

// cellField makes a field of T from a function that takes it from a record.
func cellField[T any](name, element, cast string, get func(e *entry) (*T, error), target func(rec *protocol.Record) any) field {
	return field{
		name: name,
		values: func(n int) values {
			return &cells[T]{get: get, element: element, cast: cast, rows: make([]*T, 0, n)}
		},
		target: target,
		asText: cast != "",
		copy:   copyCell(get, cast),
	}
}

func blobField(name string, get func(e *entry) ([]byte, error), target func(rec *protocol.Record) any) field {
	return field{
		name:   name,
		values: func(n int) values { return &blobs{get: get, rows: make([][]byte, 0, n)} },
		target: target,
		copy: func(b []byte, e *entry) ([]byte, error) {
			v, err := get(e)
			if v == nil {
				return appendNull(b), err
			}
			return append(appendLength(b, len(v)), v...), err
		},
	}
}

// plain makes a field of a message's own optional field; at is that field's address in the body of kind M.
func plain[M, T any](name, element string, body func(*protocol.Record) M, at func(M) **T) field {
	return cellField(name, element, "",
		func(e *entry) (*T, error) { return *at(body(e.rec)), nil },
		func(rec *protocol.Record) any { return at(body(rec)) })
}

func float64Field[M any](name string, body func(*protocol.Record) M, at func(M) **float64) field {
	return plain(name, "double precision", body, at)
}

func float32Field[M any](name string, body func(*protocol.Record) M, at func(M) **float32) field {
	return plain(name, "real", body, at)
}

func boolField[M any](name string, body func(*protocol.Record) M, at func(M) **bool) field {
	return plain(name, "boolean", body, at)
}

// textField refuses what no database stores as text.
func textField[M any](name string, body func(*protocol.Record) M, at func(M) **string) field {
	return cellField(name, "text", "",
		func(e *entry) (*string, error) {
			s := *at(body(e.rec))
			if s != nil && !storable(*s) {
				return nil, refuse("%s: %.60q: text must be UTF-8 without NUL", name, *s)
			}
			return s, nil
		},
		func(rec *protocol.Record) any { return at(body(rec)) })
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// countField is an unsigned number, which the databases have no type for.
func countField[M any, T uint32 | uint64](name string, body func(*protocol.Record) M, at func(M) **T) field {
	return cellField(name, "bigint", "",
		func(e *entry) (*int64, error) {
			n := *at(body(e.rec))
			if n == nil {
				return nil, nil
			}
			if uint64(*n) > math.MaxInt64 {
				return nil, refuse("%s: %d: the most that can be stored is %d", name, *n, int64(math.MaxInt64))
			}
			v := int64(*n)
			return &v, nil
		},
		func(rec *protocol.Record) any { return at(body(rec)) })
}

// timeField is a time on the wire: nanoseconds, of which the database keeps the microseconds.
func timeField[M any](name string, body func(*protocol.Record) M, at func(M) **int64) field {
	return cellField(name, "timestamptz", "",
		func(e *entry) (*time.Time, error) {
			ns := *at(body(e.rec))
			if ns == nil {
				return nil, nil
			}
			t, _ := micros(*ns)
			return &t, nil
		},
		func(rec *protocol.Record) any { return scanNanos{at(body(rec))} })
}

// scanNanos reads a time into a field of the wire.
type scanNanos struct{ to **int64 }

func (s scanNanos) Scan(v any) error {
	if v == nil {
		return nil
	}
	var t time.Time
	if err := (scanTime{&t}).Scan(v); err != nil {
		return err
	}
	ns := t.UnixNano()
	*s.to = &ns
	return nil
}

// enum is a generated enumeration with a short name.
type enum interface {
	~int32
	Short() string
}

func enumField[M any, E enum](name string, body func(*protocol.Record) M, at func(M) **E, parse func(string) (E, error)) field {
	return cellField(name, "text", "",
		func(e *entry) (*string, error) {
			v := *at(body(e.rec))
			if v == nil {
				return nil, nil
			}
			s := (*v).Short()
			return &s, nil
		},
		func(rec *protocol.Record) any {
			return scanText(func(s string) error {
				v, err := parseEnum(s, parse)
				*at(body(rec)) = &v
				return err
			})
		})
}

// parseEnum reads a short name, or the number that stands for a name which only a later version knows.
func parseEnum[E enum](s string, parse func(string) (E, error)) (E, error) {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return E(n), nil
	}
	return parse(s)
}

// scanText reads text; NULL is not read at all.
type scanText func(s string) error

func (f scanText) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return f(v)
	case []byte:
		return f(string(v))
	}
	return fmt.Errorf("text comes as %T", v)
}

// flagsField is a list of flags as a JSON array.
func flagsField[M any](body func(*protocol.Record) M, at func(M) *[]protocol.Flag) field {
	return cellField("flags", "text", "::jsonb",
		func(e *entry) (*string, error) {
			flags := *at(body(e.rec))
			if len(flags) == 0 {
				return nil, nil
			}
			names := make([]string, len(flags))
			for i, f := range flags {
				names[i] = f.Short()
			}
			s := `["` + strings.Join(names, `","`) + `"]`
			return &s, nil
		},
		func(rec *protocol.Record) any {
			return scanText(func(s string) error {
				var names []string
				if err := json.Unmarshal([]byte(s), &names); err != nil {
					return fmt.Errorf("read flags: %w", err)
				}
				for _, name := range names {
					f, err := parseEnum(name, protocol.ParseFlag)
					if err != nil {
						return err
					}
					*at(body(rec)) = append(*at(body(rec)), f)
				}
				return nil
			})
		})
}

// rangesField is a set of sequence numbers.
func rangesField[M any](name string, body func(*protocol.Record) M, at func(M) *[]*protocol.SeqRange) field {
	return cellField(name, "text", "::int8multirange",
		func(e *entry) (*string, error) {
			wire := *at(body(e.rec))
			if len(wire) == 0 {
				return nil, nil
			}
			set, err := rangesOf(name, wire)
			if err != nil {
				return nil, err
			}
			s := set.String()
			return &s, nil
		},
		func(rec *protocol.Record) any {
			return scanText(func(s string) error {
				set, err := protocol.ParseMultirange(s)
				*at(body(rec)) = set.Wire()
				return err
			})
		})
}

// rangesOf is a set from the wire, if the databases can hold it.
func rangesOf(name string, wire []*protocol.SeqRange) (protocol.Ranges, error) {
	set := protocol.RangesOf(wire)
	if !set.Empty() && (set.First() == 0 || set.Last() > protocol.MaxSeq) {
		return nil, refuse("%s: %.60s: sequence numbers are from 1 to %d", name, set, uint64(protocol.MaxSeq))
	}
	return set, nil
}

// messageField is a message inside the body, in the JSON dialect.
func messageField[M any, P interface {
	*T
	proto.Message
}, T any](name string, body func(*protocol.Record) M, at func(M) *P,
) field {
	return cellField(name, "text", "::jsonb",
		func(e *entry) (*string, error) {
			m := *at(body(e.rec))
			if m == nil {
				return nil, nil
			}
			b, err := marshal(name, m)
			if err != nil {
				return nil, err
			}
			s := string(b)
			return &s, nil
		},
		func(rec *protocol.Record) any {
			return scanText(func(s string) error {
				m := P(new(T))
				*at(body(rec)) = m
				return protocol.UnmarshalJSON([]byte(s), m)
			})
		})
}

// messagesField is a list of messages inside the body, as an array in the JSON dialect.
func messagesField[M any, P interface {
	*T
	proto.Message
}, T any](name string, body func(*protocol.Record) M, at func(M) *[]P,
) field {
	return cellField(name, "text", "::jsonb",
		func(e *entry) (*string, error) {
			list := *at(body(e.rec))
			if len(list) == 0 {
				return nil, nil
			}
			parts := make([][]byte, len(list))
			for i, m := range list {
				var err error
				if parts[i], err = marshal(name, m); err != nil {
					return nil, err
				}
			}
			s := "[" + string(bytes.Join(parts, []byte(","))) + "]"
			return &s, nil
		},
		func(rec *protocol.Record) any {
			return scanText(func(s string) error {
				var parts []json.RawMessage
				if err := json.Unmarshal([]byte(s), &parts); err != nil {
					return fmt.Errorf("read %s: %w", name, err)
				}
				for _, part := range parts {
					m := P(new(T))
					if err := protocol.UnmarshalJSON(part, m); err != nil {
						return fmt.Errorf("read %s: %w", name, err)
					}
					*at(body(rec)) = append(*at(body(rec)), m)
				}
				return nil
			})
		})
}

// marshal makes the JSON of a message, if PostgreSQL's jsonb can hold it.
func marshal(name string, m proto.Message) ([]byte, error) {
	b, err := protocol.MarshalJSON(m)
	if err != nil {
		return nil, refuse("%s: %w", name, err)
	}
	if bytes.Contains(b, []byte(`\u0000`)) {
		return nil, refuse("%s: text must be without NUL", name)
	}
	return b, nil
}
