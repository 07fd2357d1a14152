package accounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

// Names of the files, as their keys in mosquitto.conf are.
const (
	aclFile      = "acl_file"
	passwordFile = "password_file"
)

// filesMode lets the broker's group read them. They hold hashes of random passwords only.
const filesMode = 0o640

// Files writes Mosquitto's acl_file and password_file into a folder, for a broker that reads such files. A change holds once the broker
// has read them again.
//
// Each account has its own lines. One pattern with %u would do for all stations, but then it would let a subscriber write below its own
// name, as if it were a station. Calls come one at a time, as a Keeper makes them.
type Files struct {
	rules      Rules
	dir        string
	own, ownPW string

	known map[string]protocol.Account // nil until Repair
	hash  string                      // of the collector's own password; made when it is first needed
}

// NewFiles makes a backend that writes into dir. The collector's own account is written there, too; without a password it has none
// in the password_file.
func NewFiles(rules Rules, dir, own, password string) *Files {
	return &Files{rules: rules, dir: dir, own: own, ownPW: password}
}

// Repair makes the files agree with the list.
func (f *Files) Repair(_ context.Context, valid []protocol.Account) error {
	f.known = make(map[string]protocol.Account, len(valid))
	for _, a := range valid {
		f.known[a.Username] = a
	}
	return f.write()
}

// Set writes an account into the files.
func (f *Files) Set(_ context.Context, account protocol.Account, _ string) error {
	if f.known == nil {
		return errNotRead
	}
	f.known[account.Username] = account
	return f.write()
}

// Drop takes an account out of the files.
func (f *Files) Drop(_ context.Context, account protocol.Account) error {
	if f.known == nil {
		return errNotRead
	}
	delete(f.known, account.Username)
	return f.write()
}

// errNotRead says that the files would hold less than they should.
var errNotRead = errors.New("the accounts have not been read from the database yet")

// Note says that the broker has to read the files again.
func (f *Files) Note() string {
	return fmt.Sprintf("written to %s: it holds, and sessions of revoked accounts end, once the broker has read its files again (systemctl reload mosquitto, or SIGHUP)", f.dir)
}

// write writes both files, unless they are as they should be.
func (f *Files) write() error {
	if f.hash == "" && f.ownPW != "" {
		var err error
		if f.hash, err = f.ownHash(); err != nil {
			return err
		}
	}
	var acl, passwords bytes.Buffer
	fmt.Fprintf(&acl, "# Written by heimdall-collector: changes are lost.\n")
	names := slices.Sorted(maps.Keys(f.known))
	stations := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return f.known[name].Kind != protocol.AccountStation })
	f.entry(&acl, &passwords, f.own, f.hash, f.rules.collector(stations...))
	for _, name := range names {
		a := f.known[name]
		f.entry(&acl, &passwords, name, a.Hash, f.rules.of(a))
	}
	if err := replace(filepath.Join(f.dir, passwordFile), passwords.Bytes()); err != nil {
		return err
	}
	return replace(filepath.Join(f.dir, aclFile), acl.Bytes())
}

// ownHash is the hash of the collector's own password: the one that is in the file if it still fits, so that a start changes nothing.
func (f *Files) ownHash() (string, error) {
	text, err := os.ReadFile(filepath.Join(f.dir, passwordFile))
	if err == nil {
		for line := range bytes.Lines(text) {
			name, hash, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
			if string(name) == f.own && fits(string(hash), f.ownPW) {
				return string(hash), nil
			}
		}
	}
	return hashPassword(f.ownPW)
}

func (f *Files) entry(acl, passwords *bytes.Buffer, name, hash string, list []right) {
	fmt.Fprintf(acl, "\nuser %s\n", name)
	for _, r := range list {
		access := "read"
		if r.publish {
			access = "write"
		}
		fmt.Fprintf(acl, "topic %s %s\n", access, r.filter)
	}
	if hash != "" {
		fmt.Fprintf(passwords, "%s:%s\n", name, hash)
	}
}

// replace puts a file in the place of another one, whole, unless they are the same. Several collectors of one database may keep the
// files of one broker.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := wholefile.WriteShared(path, content, filesMode); err != nil {
		return fmt.Errorf("write the broker's files: %w", err)
	}
	return nil
}
