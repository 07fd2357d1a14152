// Package wholefile writes files that are there whole and on disk, or as they were before: a program that ends in the middle, or a
// power cut, leaves no half.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Suffix is what the name of a file ends with until it is whole.
const Suffix = ".new"

// Write puts a file in the place of the one at path, or where there is none. Prepare, unless it is nil, sees the file before it gets
// its name, to give it to somebody else. An error leaves what was there, unless it is the folder that cannot be brought to disk.
func Write(path string, content []byte, mode fs.FileMode, prepare func(part string) error) error {
	f, err := os.OpenFile(path+Suffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	return finish(f, path, content, mode, prepare)
}

// WriteShared is Write for a file that several programs may write at once: each makes one of its own, and the last one stays. A
// program that ends in the middle leaves that behind.
func WriteShared(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+Suffix)
	if err != nil {
		return err
	}
	return finish(f, path, content, mode, nil)
}

// finish fills a file and gives it its name.
func finish(f *os.File, path string, content []byte, mode fs.FileMode, prepare func(part string) error) error {
	err := f.Chmod(mode) // one that was left behind may have been open to others
	if err == nil {
		_, err = f.Write(content)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && prepare != nil {
		err = prepare(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // if it stays, it is in nobody's way
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder brings a new name to disk, where the system can.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
