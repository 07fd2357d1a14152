package radio

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// checksum hashes the data of a recording while it is played, so that it costs no second reading. It is nil for a
// recording whose description states no hash, or that is not played from its beginning.
type checksum struct {
	hash hash.Hash
	want []byte
	data io.ReaderAt
	next int64 // first byte of the file that is not yet in the hash
	end  int64
}

// newChecksum expects a hash, written in hex, of the bytes from offset on. An empty one is none.
func newChecksum(want string, data io.ReaderAt, offset, size int64) *checksum {
	sum, err := hex.DecodeString(want)
	if err != nil || len(sum) == 0 {
		return nil
	}
	return &checksum{hash: sha512.New(), want: sum, data: data, next: offset, end: offset + size}
}

// take adds what was read at an offset, and before it what lies there that is no sample. Bytes that are played again are
// in the hash already.
func (c *checksum) take(p []byte, offset int64) error {
	if c == nil || offset < c.next {
		return nil
	}
	if err := c.catchUp(offset); err != nil {
		return err
	}
	c.hash.Write(p)
	c.next += int64(len(p))
	return nil
}

func (c *checksum) catchUp(offset int64) error {
	n, err := io.Copy(c.hash, io.NewSectionReader(c.data, c.next, offset-c.next))
	c.next += n
	if err == nil && c.next < offset {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// verify compares at the end of the samples. It says so once.
func (r *recording) verify() error {
	c := r.sum
	if c == nil {
		return nil
	}
	r.sum = nil
	if err := c.catchUp(c.end); err != nil {
		return fmt.Errorf("read recording %s: %w", r.path, err)
	}
	if got := c.hash.Sum(nil); !bytes.Equal(got, c.want) {
		return r.fault("core:sha512", hex.EncodeToString(c.want[:8])+"…",
			fmt.Sprintf("the data is not what was recorded, its hash is %x…: it was cut short or changed; get the file again", got[:8]))
	}
	return nil
}
