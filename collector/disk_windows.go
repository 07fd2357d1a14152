package main

import "golang.org/x/sys/windows"

// diskRoom is how many bytes the disk of a path has for this account in all, and how many of them are free.
func diskRoom(path string) (total, free uint64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(name, &free, &total, nil)
	return total, free, err
}
