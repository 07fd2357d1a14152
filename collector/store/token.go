package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

const (
	// tokenKind is the kind of the accounts of tokens, and what their names in the table begin with. No station's id has a colon.
	tokenKind   = "token"
	tokenPrefix = tokenKind + ":"
	// secretPrefix tells those who look for leaked secrets what they have found.
	secretPrefix = "hdt_"
	secretBytes  = 32
	// usedWithin is how exact the time of the last use is: not every request is to be a write.
	usedWithin = time.Hour
	// mostTokenStations is how many stations a token may be limited to.
	mostTokenStations = 100
)

// secretText writes random bytes so that a double click marks all of it.
var secretText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// AddToken makes a token and gives its secret, which is kept nowhere: only its SHA-256 is, and of 256 random bits nothing can be
// guessed from that. Who did it is noted in the audit. What is wrong with the token is [protocol.FieldErrors]; a name is never given
// twice, so that the audit stays clear.
func (db *DB) AddToken(ctx context.Context, t protocol.Token, actor string) (secret string, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	expires, faults := checkToken(t, now)
	if len(faults) > 0 {
		return "", faults
	}
	random := make([]byte, secretBytes)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	secret = secretPrefix + secretText.EncodeToString(random)
	var stations *string
	if len(t.Stations) > 0 {
		text, err := json.Marshal(t.Stations)
		if err != nil {
			return "", err
		}
		stations = new(string(text))
	}
	err = db.transact(ctx, func(tx *sql.Tx) error {
		result, err := db.exec(ctx, tx, `INSERT INTO account (account, kind, secret, created, role, stations, expires)
			VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7) ON CONFLICT DO NOTHING`, tokenPrefix+t.Name, tokenKind, hashed(secret), now, string(t.Role), stations, expires)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, protocol.FieldErrors{{Field: "name", Value: t.Name, Message: "there is or was a token of this name; choose another"}})
		}
		detail := map[string]any{"role": t.Role}
		if stations != nil {
			detail["stations"] = t.Stations
		}
		if expires != nil {
			detail["expires"] = protocol.FormatTime(*expires)
		}
		return db.audit(ctx, tx, now, actor, "token-add", t.Name, detail)
	})
	if faults, ok := errors.AsType[protocol.FieldErrors](err); ok {
		return "", faults
	}
	if err != nil {
		return "", wrapData(err, "add token %s", t.Name)
	}
	return secret, nil
}

// checkToken finds what is wrong with a new token, and reads when it ends.
func checkToken(t protocol.Token, now time.Time) (expires *time.Time, faults protocol.FieldErrors) {
	fault := func(field, value, message string) {
		faults = append(faults, protocol.FieldError{Field: field, Value: value, Message: message})
	}
	if err := protocol.ValidTokenName(t.Name); err != nil {
		fault("name", t.Name, err.Error())
	}
	if !t.Role.Known() {
		fault("role", string(t.Role), "want viewer, operator or admin")
	}
	if len(t.Stations) > mostTokenStations {
		fault("stations", fmt.Sprintf("%d stations", len(t.Stations)), fmt.Sprintf("name at most %d", mostTokenStations))
	}
	if len(t.Stations) > 0 && t.Role == protocol.RoleAdmin {
		fault("stations", strings.Join(t.Stations, ","), "an admin looks after all stations; leave them out, or choose viewer or operator")
	}
	for _, id := range t.Stations {
		if err := protocol.ValidStation(id); err != nil {
			fault("stations", id, err.Error())
		}
	}
	if t.Expires == "" {
		return nil, faults
	}
	at, err := protocol.ParseTime(t.Expires)
	at = at.UTC().Truncate(time.Microsecond)
	if err != nil || !at.After(now) || at.Year() > 9999 {
		fault("expires", t.Expires, "want a time to come, such as "+protocol.FormatTime(now.Add(24*time.Hour).Truncate(time.Hour)))
	}
	return &at, faults
}

func hashed(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// TokenOf is the token of a secret; [ErrNotFound] when there is none, or none any more. The time of its use is kept to the hour.
func (db *DB) TokenOf(ctx context.Context, secret string) (*protocol.Token, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok || len(text) != secretText.EncodedLen(secretBytes) {
		return nil, wrap(ErrNotFound, "look for a token")
	}
	sum := hashed(secret)
	now := time.Now().UTC()
	found, err := db.readTokens(ctx, "secret = $2 AND revoked IS NULL AND (expires IS NULL OR expires > $3)", sum, now)
	if err == nil && (len(found) != 1 || subtle.ConstantTimeCompare(found[0].hash, sum) != 1) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "look for a token")
	}
	hour := now.Truncate(usedWithin)
	if found[0].used.Before(hour) {
		_, err := db.exec(ctx, db.write, "UPDATE account SET used = $2 WHERE account = $1", tokenPrefix+found[0].Name, hour)
		if err != nil {
			return nil, wrap(err, "note the use of token %s", found[0].Name)
		}
	}
	return &found[0].Token, nil
}

// Tokens lists all tokens by name, also those that are revoked or have expired.
func (db *DB) Tokens(ctx context.Context) ([]protocol.Token, error) {
	found, err := db.readTokens(ctx, "true")
	list := make([]protocol.Token, len(found))
	for i := range found {
		list[i] = found[i].Token
	}
	return list, wrap(err, "list tokens")
}

// storedToken is a token with what is not shown of it.
type storedToken struct {
	protocol.Token
	hash []byte
	used time.Time
}

// readTokens reads the tokens for which a condition holds; its arguments are numbered from 2.
func (db *DB) readTokens(ctx context.Context, condition string, args ...any) ([]storedToken, error) {
	var list []storedToken
	err := db.forEach(ctx, db.read, `SELECT account, secret, created, revoked, coalesce(role, ''), coalesce(CAST(stations AS text), ''), used, expires
		FROM account WHERE kind = $1 AND `+condition+" ORDER BY account", append([]any{tokenKind}, args...), func(rows *sql.Rows) error {
		var t storedToken
		var created, revoked, expires time.Time
		var stations string
		if err := rows.Scan(&t.Name, &t.hash, scanTime{&created}, scanTime{&revoked}, &t.Role, &stations, scanTime{&t.used}, scanTime{&expires}); err != nil {
			return err
		}
		t.Name = strings.TrimPrefix(t.Name, tokenPrefix)
		t.Created, t.Revoked, t.LastUsed, t.Expires = formatKnown(created), formatKnown(revoked), formatKnown(t.used), formatKnown(expires)
		list = append(list, t)
		if stations == "" {
			return nil
		}
		return json.Unmarshal([]byte(stations), &list[len(list)-1].Stations)
	})
	return list, err
}

// RevokeToken ends a token at once, and notes who did it in the audit; one that is revoked already stays as it is. [ErrNotFound] says
// that there is no token of the name.
func (db *DB) RevokeToken(ctx context.Context, name, actor string) error {
	if protocol.ValidTokenName(name) != nil {
		return wrap(ErrNotFound, "token %.40q", name)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	err := db.transact(ctx, func(tx *sql.Tx) error {
		var revoked time.Time
		err := db.queryRow(ctx, tx, "SELECT revoked FROM account WHERE kind = $1 AND account = $2 FOR UPDATE", tokenKind, tokenPrefix+name).Scan(scanTime{&revoked})
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || !revoked.IsZero() {
			return err
		}
		if _, err := db.exec(ctx, tx, "UPDATE account SET revoked = $2 WHERE account = $1", tokenPrefix+name, now); err != nil {
			return err
		}
		return db.audit(ctx, tx, now, actor, "token-revoke", name, nil)
	})
	return wrap(err, "revoke token %s", name)
}
