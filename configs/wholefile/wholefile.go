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
	part := path + Suffix
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if err = f.Chmod(mode); err == nil { // one that was left behind may have been open to others
		_, err = f.Write(content)
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && prepare != nil {
		err = prepare(part)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		os.Remove(part) // if it stays, the next one writes over it
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
