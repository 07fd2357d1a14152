package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

const (
	manifestName = "backup.json" // written last: a folder without it is no whole backup
	databaseName = "database"
	caName       = "ca"
	// backupFormat grows when an older program could not read a backup rightly.
	backupFormat = 1
)

// manifest says what a backup holds.
type manifest struct {
	Format   int               `json:"format"`
	Made     string            `json:"made"`
	Version  string            `json:"version"`
	Database store.Dump        `json:"database"`
	Files    map[string]string `json:"files"` // SHA-256 by name
}

// BackupCmd copies what a collector cannot get again.
type BackupCmd struct {
	configFlag `embed:""`
	Dir        string `arg:"" help:"Folder to make."`
}

// Help begins with the example.
func (BackupCmd) Help() string {
	return "Example:  heimdall-collector backup /backup/heimdall-$(date +%F)\n\nThe database with its accounts, as it is at one moment, the certificate authority, and the list of the objects in the archive, whose files are not copied. Collectors go on meanwhile. It holds where stations truly are and who may do what: keep it as safe as the database."
}

// Run is called by the command line.
func (c BackupCmd) Run(ctx context.Context, s streams) (err error) {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.Dir); err == nil {
		return fmt.Errorf("%s is there already: name a folder to make", c.Dir)
	}
	db, err := openUsed(ctx, cfg, "backup")
	if err != nil {
		return err
	}
	defer db.Close()
	part := filepath.Clean(c.Dir) + ".part"
	if err := os.RemoveAll(part); err != nil { // of one that was broken off
		return fmt.Errorf("make %s: %w", part, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(part)
		}
	}()
	began := time.Now()
	m := manifest{Format: backupFormat, Made: protocol.FormatTime(began), Version: version, Files: make(map[string]string)}
	if m.Database, err = db.Backup(ctx, filepath.Join(part, databaseName)); err != nil {
		return fmt.Errorf("back up into %s: %w", c.Dir, unreachable(err, "store.url"))
	}
	if err := copyFolder(filepath.Join(cfg.Data, caName), filepath.Join(part, caName)); err != nil {
		return fmt.Errorf("back the certificate authority up: %w", err)
	}
	bytes, err := m.finish(part, c.Dir)
	if err != nil {
		return fmt.Errorf("back up into %s: %w", c.Dir, err)
	}
	_, err = fmt.Fprintf(s.out, "%s: %s, %s in %s; list of %s in the archive, which is not copied\n",
		c.Dir, m.Database, configs.Bytes(bytes), time.Since(began).Round(10*time.Millisecond), plural(m.Database.Objects, "recording"))
	return err
}

// finish writes the manifest and gives the folder its name. It tells how much was written.
func (m *manifest) finish(part, dir string) (bytes int64, err error) {
	files, err := hashes(part)
	if err != nil {
		return 0, err
	}
	for name, f := range files {
		m.Files[name] = f.sha256
		bytes += f.bytes
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return 0, err
	}
	if err := writeSynced(filepath.Join(part, manifestName), append(text, '\n')); err != nil {
		return 0, err
	}
	return bytes, os.Rename(part, dir)
}

// hashed is a file of a backup.
type hashed struct {
	sha256 string
	bytes  int64
}

// hashes reads every file of a folder but the manifest.
func hashes(dir string) (map[string]hashed, error) {
	files := make(map[string]hashed)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == manifestName {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		files[filepath.ToSlash(name)] = hashed{hex.EncodeToString(sum.Sum(nil)), n}
		return err
	})
	return files, err
}

// copyFolder copies the files of a folder; one that is not there has none.
func copyFolder(from, to string) error {
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return writeSynced(filepath.Join(to, name), text)
	})
}

// writeSynced writes a file, for its owner only, that is on disk when this returns.
func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// RestoreCmd puts a backup back.
type RestoreCmd struct {
	configFlag `embed:""`
	Replace    bool   `help:"Remove what the database holds first."`
	Dir        string `arg:"" help:"Folder that backup made."`
}

// Help begins with the example.
func (RestoreCmd) Help() string {
	return "Example:  heimdall-collector restore /backup/heimdall-2026-11-24\n\nStop every collector first. Afterwards start them: what came in since the backup, agents send again as far as they still keep it (delivery.keep); then `heimdall-collector verify` names what is missing for good."
}

// Run is called by the command line.
func (c RestoreCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.load(s.err)
	if err != nil {
		return err
	}
	m, err := readManifest(c.Dir)
	if err != nil {
		return err
	}
	data, err := openDataDir(cfg.Data)
	if err != nil {
		return err
	}
	defer func() { _ = data.close() }() // nothing was written through it
	began := time.Now()
	err = store.Restore(ctx, string(cfg.Store.URL), filepath.Join(c.Dir, databaseName), m.Database, c.Replace, newLog(cfg.Log, s.err))
	if errors.Is(err, store.ErrNotEmpty) {
		return fmt.Errorf("%s: %w; --replace removes what it holds, an empty one keeps it", redact(string(cfg.Store.URL)), err)
	}
	if err != nil {
		return unreachable(err, "store.url")
	}
	if err := copyFolder(filepath.Join(c.Dir, caName), filepath.Join(cfg.Data, caName)); err != nil {
		return fmt.Errorf("restore the certificate authority: %w", err)
	}
	fmt.Fprintf(s.out, "restored %s in %s, as of %s\n", m.Database, time.Since(began).Round(10*time.Millisecond), m.Made)
	if err := compareObjects(ctx, cfg, c.Dir, m, s.out); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, "Now start the collectors. Stations send again what they still keep; then `heimdall-collector verify` names what is missing.")
	return err
}

// readManifest reads what a backup holds, and proves that it still does.
func readManifest(dir string) (m manifest, err error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return m, fmt.Errorf("%s is no whole backup: %w", dir, err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", filepath.Join(dir, manifestName), err)
	}
	if m.Format != backupFormat {
		return m, fmt.Errorf("%s is of format %d, and this heimdall-collector reads %d: use the version that made it, %s", dir, m.Format, backupFormat, m.Version)
	}
	files, err := hashes(dir)
	if err != nil {
		return m, fmt.Errorf("read %s: %w", dir, err)
	}
	for name, want := range m.Files {
		if files[name].sha256 != want {
			return m, fmt.Errorf("%s is not as it was written: it is damaged, and the backup with it", filepath.Join(dir, filepath.FromSlash(name)))
		}
	}
	return m, nil
}

// mostObjectsNamed is how many absent objects are named.
const mostObjectsNamed = 10

// compareObjects tells which recordings the archive no longer holds. That it cannot be asked is told and no more.
func compareObjects(ctx context.Context, cfg Config, dir string, m manifest, w io.Writer) error {
	files, err := archive.Open(ctx, archive.Config{Location: cfg.Archive.URL, Credentials: cfg.Archive.credentials(), Log: quiet()})
	if err == nil {
		defer files.Close()
		err = files.Check(ctx)
	}
	if err != nil {
		_, err = fmt.Fprintf(w, "the archive was not compared: %v\n", err)
		return err
	}
	absent := 0
	err = store.ReadObjects(filepath.Join(dir, databaseName), func(o store.DumpedObject) error {
		there, err := hasObjects(ctx, files, o.Key)
		if err != nil || there {
			return err
		}
		absent++
		if absent <= mostObjectsNamed {
			fmt.Fprintf(w, "not in the archive: %s\n", o.Key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare the archive: %w", err)
	}
	_, err = fmt.Fprintf(w, "%d of %s in the archive\n", m.Database.Objects-absent, plural(m.Database.Objects, "recording"))
	return err
}

func hasObjects(ctx context.Context, files *archive.Archive, key string) (bool, error) {
	for _, open := range []func(context.Context, string) (io.ReadSeekCloser, error){files.OpenMeta, files.OpenData} {
		f, err := open(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		f.Close()
	}
	return true, nil
}
