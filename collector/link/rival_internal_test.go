package link

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

func TestClosures_Suspicious(t *testing.T) {
	closed := fmt.Errorf("the connection ended: %w", io.EOF)
	for _, c := range []struct {
		name  string
		at    []int // minutes
		err   error
		rival bool
		want  int // how often the rival is asked
	}{
		{"three in ten minutes", []int{0, 4, 9}, closed, false, 0},
		{"four in ten minutes", []int{0, 4, 8, 9}, closed, false, 1},
		{"four resets", []int{0, 4, 8, 9}, fmt.Errorf("read: %w", syscall.ECONNRESET), false, 1},
		{"four that this end gave up", []int{0, 4, 8, 9}, errors.New("pingresp not received"), false, 0},
		{"four in longer", []int{0, 4, 9, 10}, closed, false, 0},
		{"once in ten minutes", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, closed, false, 1},
		{"again after ten minutes", []int{0, 1, 2, 3, 7, 9, 11, 13}, closed, false, 2},
		{"each time when it has answered", []int{0, 20, 40}, closed, true, 3},
	} {
		closures := closures{rival: c.rival}
		asked := 0
		for _, at := range c.at {
			if closures.suspicious(time.Unix(0, 0).Add(time.Duration(at)*time.Minute), c.err) {
				asked++
			}
		}
		if asked != c.want {
			t.Errorf("%s: asked %d times, want %d", c.name, asked, c.want)
		}
		if len(closures.at) > 11 {
			t.Errorf("%s: %d closures are remembered of ten minutes", c.name, len(closures.at))
		}
	}
}
