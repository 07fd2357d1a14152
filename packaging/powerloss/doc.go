// Package powerloss shows what a disk may hold after the power went, without root and without a special file system.
//
// Record runs a program under strace and keeps what it asked of the files below one directory, with the bytes, together
// with what it said on its standard output meanwhile. Image then writes the directory as it may be found if the power
// goes at one of these points: what a finished fsync or fdatasync covers is there; of what was written later any part
// may be, in any order, torn in sectors of 512 bytes. A name that was made, changed or removed is sure to be so only
// after an fsync of its directory.
//
// Not covered: a drive that lies about a flush, damage to what was durable, and file systems that keep less than POSIX
// asks for. Writing through a shared memory map is not seen.
package powerloss
