package spool

import (
	"os"

	"golang.org/x/sys/windows"
)

// FreeBytes is how much room there is for this account on the disk that a folder is on; false when that is not known.
func FreeBytes(dir string) (int64, bool) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	var free, total, totalFree uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, &totalFree); err != nil {
		return 0, false
	}
	return int64(free), true
}

// allocated is what a file takes of the disk.
func allocated(info os.FileInfo) int64 { return info.Size() }
