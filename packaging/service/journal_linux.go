package service

import (
	"fmt"
	"os"
	"syscall"
)

// deviceAndInode is a file as JOURNAL_STREAM names it.
func deviceAndInode(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
