//go:build unix

package radio

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readable waits until there is something to read, or the end of it. A read of the standard input cannot be broken off, and
// making it so would change it for all who share it.
func readable(f *os.File, wait time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}
