package spool

import (
	"io/fs"
	"path/filepath"
)

// TakenBytes is how much of the disk the files of the spool in dir take; 0 where there is none.
func TakenBytes(dir string) int64 {
	var taken int64
	for _, name := range []string{fileName, reserved, iqName} {
		// What cannot be looked at, or goes meanwhile, is left out.
		_ = filepath.WalkDir(filepath.Join(dir, name), func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil //nolint:nilerr // see above
			}
			if info, err := entry.Info(); err == nil {
				taken += allocated(info)
			}
			return nil
		})
	}
	return taken
}
