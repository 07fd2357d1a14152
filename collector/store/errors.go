package store

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrNotFound says that there is no row of the asked id. It matches [fs.ErrNotExist], so that packages which do not
// import this one can tell, too.
var ErrNotFound = fmt.Errorf("not in the database: %w", fs.ErrNotExist)

// Class says what a caller can do about an error.
type Class int

// The classes of error.
const (
	// ClassTransient may go away by itself: try the same again, for ever.
	ClassTransient Class = iota
	// ClassRecord is the fault of one record of the call: leave that one out.
	ClassRecord
	// ClassAll concerns every call, as a table that is missing does: stop and raise an alarm.
	ClassAll
)

func (c Class) String() string {
	switch c {
	case ClassTransient:
		return "transient"
	case ClassRecord:
		return "permanent for one record"
	case ClassAll:
		return "permanent for all"
	}
	return fmt.Sprintf("class %d", int(c))
}

// Error is a failed operation and what can be done about it.
type Error struct {
	Class Class
	Err   error
}

// Error is one line, for logs and terminals: pgx puts each address that it tried on one of its own.
func (e *Error) Error() string {
	text := e.Err.Error()
	if failed, ok := errors.AsType[*pgconn.ConnectError](e.Err); ok {
		text = strings.Replace(text, failed.Error(), notConnected(failed), 1)
	}
	return oneLine.Replace(text)
}

const mend = "store.url, or HEIMDALL_COLLECTOR_STORE_URL where that is set"

// notConnected says why there is no connection, and the mend. pgx tells the story of each attempt, with TLS and without.
func notConnected(failed *pgconn.ConnectError) string {
	if answer, ok := errors.AsType[*pgconn.PgError](failed); ok {
		return notLetIn(failed.Config, answer)
	}
	if unknown, ok := errors.AsType[*net.DNSError](failed); ok {
		return fmt.Sprintf("the address of %q is not to be found (%s): correct the host in %s", unknown.Name, unknown.Err, mend)
	}
	text := failed.Error()
	if strings.Contains(text, "server refused TLS connection") { // pgx has no other name for it
		return fmt.Sprintf("the server at %s:%d has no TLS, which sslmode asks for: set it up there, or write sslmode=prefer in %s",
			failed.Config.Host, failed.Config.Port, mend)
	}
	return text
}

// notLetIn says why a server refuses a connection, and the mend.
func notLetIn(config *pgconn.Config, answer *pgconn.PgError) string {
	host := fmt.Sprintf("%s:%d", config.Host, config.Port)
	switch answer.Code {
	case "28P01":
		return fmt.Sprintf("the server at %s refuses the password of user %q: correct it in %s", host, config.User, mend)
	case "3D000":
		return fmt.Sprintf("the server at %s has no database %q: make it with `createdb -O %s %s` there, or name another in %s", host, config.Database, config.User, config.Database, mend)
	case "28000":
		return fmt.Sprintf("the server at %s does not let user %q in (%s): correct the server's pg_hba.conf or its roles, or %s", host, config.User, answer.Message, mend)
	}
	return fmt.Sprintf("the server at %s does not let user %q in: %s", host, config.User, answer)
}

// WantsPassword tells whether a server lets nobody in without a password, or not with the one that it got.
func WantsPassword(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == "28P01"
}

var oneLine = strings.NewReplacer(":\n\t", ": ", "\n\t", ", ", "\n", " ")

// Unwrap gives the database's own error.
func (e *Error) Unwrap() error { return e.Err }

// Transient tells whether the same call may succeed later.
func (e *Error) Transient() bool { return e.Class == ClassTransient }

// OneRecord tells whether the call would succeed without one of its records.
func (e *Error) OneRecord() bool { return e.Class == ClassRecord }

// wrap says what was being done when err came about, and of which class it is. Nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	class := classify(err)
	if diskFull(err) && !errors.Is(err, errDiskFull) {
		err = fmt.Errorf("%w: %w", errDiskFull, err)
	}
	err = fmt.Errorf(format+": %w", append(args, err)...)
	if errors.Is(err, ErrNotFound) {
		return err
	}
	return &Error{Class: class, Err: err}
}

// errDiskFull says what to do where the server only says what it could not do.
var errDiskFull = errors.New("the database's disk is full: make room there, or shorten retention; stations keep their records meanwhile")

// diskFull tells whether the database has no room.
func diskFull(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "53100"
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && lite.Code()&0xff == sqlite3.SQLITE_FULL
}

// wrapData is wrap for a statement whose values come from one record each: when they do not suit their columns, that is
// the record's fault. In all other statements it is this package's own, and no record may be refused for it.
func wrapData(err error, format string, args ...any) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, class := range []string{"22", "23", "54"} { // data, integrity, program limit: appendix A of PostgreSQL's manual
			if strings.HasPrefix(pg.Code, class) {
				err = &Error{Class: ClassRecord, Err: err}
				break
			}
		}
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
			err = &Error{Class: ClassRecord, Err: err}
		}
	}
	return wrap(err, format, args...)
}

// refuse is the error of a record that no database would take.
func refuse(format string, args ...any) error {
	return &Error{Class: ClassRecord, Err: fmt.Errorf(format, args...)}
}

// classify finds the class of an error. What is unknown counts as transient: trying again loses nothing.
func classify(err error) Class {
	if own, ok := errors.AsType[*Error](err); ok {
		return own.Class
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyPostgres(pg.Code)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return classifySQLite(lite.Code())
	}
	return ClassTransient
}

// classifyPostgres reads SQLSTATE.
func classifyPostgres(code string) Class {
	// Data, integrity and program limit; undefined table or refused privilege; missing feature; bad password; no such
	// database or schema. Not 42P05: a pooler gave this connection another server session.
	for _, class := range []string{"22", "23", "54", "42", "0A", "28", "3D", "3F"} {
		if strings.HasPrefix(code, class) && code != "42P05" {
			return ClassAll
		}
	}
	return ClassTransient
}

func classifySQLite(code int) Class {
	switch code & 0xff { // the rest is an extended code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA:
		return ClassTransient
	}
	return ClassAll
}

// collided tells whether another transaction stood in the way, so that the whole of this one should be run again.
func collided(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY
	}
	return false
}

// ErrForeign says that the database is another program's, by a table of a name that is the collector's. No number of attempts
// changes it.
var ErrForeign = errors.New("the database holds a table of another program: give the collector one of its own, and name it in " + mend)

// foreign is the error of a table that cannot be the collector's own.
func foreign(err error) error {
	return &Error{Class: ClassAll, Err: fmt.Errorf("%w (%w)", ErrForeign, err)}
}

// noColumn tells whether a table lacks a column that was asked for.
func noColumn(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "42703"
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && strings.Contains(lite.Error(), "no such column")
}

// tableThere tells whether a table was to be made that is there already.
func tableThere(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "42P07"
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && strings.Contains(lite.Error(), "already exists")
}

// noTable tells whether there is no table of the name that was asked for.
func noTable(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "42P01"
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && lite.Code() == sqlite3.SQLITE_ERROR
}
