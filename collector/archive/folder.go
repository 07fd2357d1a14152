package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"
)

// incoming is where files grow until they are complete; a rename then moves them to their place.
const incoming = ".incoming"

// folder keeps objects as files below a directory, and never leaves it.
type folder struct {
	root *os.Root
}

func openFolder(dir string) (*folder, error) {
	dir = filepath.FromSlash(dir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make archive folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive folder: %w", err)
	}
	return &folder{root: root}, nil
}

func (f *folder) put(ctx context.Context, key, _ string, size int64, r io.Reader) (err error) {
	if err := f.makeDir(incoming); err != nil {
		return err
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("name a file: %w", err)
	}
	growing := path.Join(incoming, hex.EncodeToString(random[:]))
	defer func() {
		if err != nil {
			err = errors.Join(err, f.forget(growing))
		}
	}()
	if err := f.write(ctx, growing, size, r); err != nil {
		return err
	}
	dir := path.Dir(key)
	if err := f.makeDir(dir); err != nil {
		return err
	}
	if err := f.root.Rename(growing, key); err != nil {
		return fmt.Errorf("put file in its place: %w", err)
	}
	return f.syncDir(dir)
}

// write stores size bytes of r durably in a new file.
func (f *folder) write(ctx context.Context, name string, size int64, r io.Reader) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	n, err := io.Copy(file, contextReader{ctx: ctx.Err, r: r})
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// forget removes a file that may be absent.
func (f *folder) forget(name string) error {
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// remove also removes the directories that are empty then, so that years of captures do not leave years of directories.
func (f *folder) remove(_ context.Context, key string) error {
	if err := f.forget(key); err != nil {
		return err
	}
	dir := path.Dir(key)
	if err := f.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir != "." && dir+"/" != recordingsPrefix && f.root.Remove(dir) == nil { // what is not empty stays
		dir = path.Dir(dir)
	}
	return nil
}

// makeDir makes a directory and its parents, and makes new ones durable.
func (f *folder) makeDir(dir string) error {
	if _, err := f.root.Stat(dir); err == nil {
		return nil
	}
	if err := f.root.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for dir != "." {
		dir = path.Dir(dir)
		if err := f.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the entries of a directory durable. Windows has no such call and needs none.
func (f *folder) syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := f.root.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

func (f *folder) open(_ context.Context, key string) (object, error) {
	file, err := f.root.Open(filepath.FromSlash(key))
	if err != nil {
		return nil, err // an *os.PathError: it names the file and wraps fs.ErrNotExist
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notFound(key)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &openFile{File: file, info: info}, nil
}

func (f *folder) sweep(ctx context.Context, before time.Time) error {
	entries, err := fs.ReadDir(f.root.FS(), incoming)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list unfinished files: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || ctx.Err() != nil || !info.ModTime().Before(before) {
			continue // gone meanwhile, or still growing
		}
		if err := f.forget(path.Join(incoming, entry.Name())); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// check makes and removes a file: a folder that can be read may still be full or read-only.
func (f *folder) check(ctx context.Context) error {
	if err := f.makeDir(incoming); err != nil {
		return fmt.Errorf("use archive folder: %w", err)
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("name a file: %w", err)
	}
	name := path.Join(incoming, "check-"+hex.EncodeToString(random[:]))
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return fmt.Errorf("use archive folder: %w", err)
	}
	return errors.Join(ctx.Err(), file.Close(), f.forget(name))
}

func (f *folder) close() error { return f.root.Close() }

// openFile is a file read as an object.
type openFile struct {
	*os.File
	info fs.FileInfo
}

func (o *openFile) size() int64         { return o.info.Size() }
func (o *openFile) modified() time.Time { return o.info.ModTime() }

// contextReader ends a copy when the context does.
type contextReader struct {
	ctx func() error
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
