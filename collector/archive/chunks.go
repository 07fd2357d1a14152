package archive

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/fulgidus/heimdall/protocol"
)

// rejection says that a capture can never become a recording, however often it is tried.
type rejection struct{ reason string }

func (r *rejection) Error() string { return r.reason }

func reject(format string, values ...any) error {
	return &rejection{reason: fmt.Sprintf(format, values...)}
}

// samples reads a capture's data chunk by chunk and proves it against the manifest. The last chunk is given out only
// when the number of bytes and the SHA-512 of the whole are right, so whoever stores what it reads never holds a wrong
// whole. At most one chunk is in memory.
type samples struct {
	next   func(index uint32) ([]byte, error)
	chunks uint32
	bytes  uint64
	sha512 []byte

	index uint32 // of the next chunk
	read  uint64 // bytes of all chunks so far
	sum   hash.Hash
	rest  []byte // of the current chunk
}

func newSamples(ctx context.Context, source Source, station string, manifest *protocol.CaptureManifest) *samples {
	return &samples{
		next: func(index uint32) ([]byte, error) {
			data, err := source.Chunk(ctx, station, manifest.GetId(), index)
			if err != nil {
				return nil, fmt.Errorf("read chunk %d: %w", index, err)
			}
			if len(data) == 0 {
				return nil, fmt.Errorf("read chunk %d: it is gone; another collector may have written the recording", index)
			}
			return data, nil
		},
		chunks: manifest.GetChunks(),
		bytes:  manifest.GetBytes(),
		sha512: manifest.GetSha512(),
		sum:    sha512.New(),
	}
}

func (s *samples) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.index == s.chunks {
			return 0, io.EOF
		}
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// advance takes the next chunk; the last one only if all is right.
func (s *samples) advance() error {
	data, err := s.next(s.index)
	if err != nil {
		return err
	}
	s.read += uint64(len(data))
	if s.read > s.bytes {
		return reject("its chunks hold more than the %d bytes of its manifest: %d after chunk %d", s.bytes, s.read, s.index)
	}
	s.sum.Write(data)
	s.index++
	if s.index == s.chunks {
		if s.read != s.bytes {
			return reject("its chunks hold %d bytes, its manifest says %d", s.read, s.bytes)
		}
		if got := s.sum.Sum(nil); string(got) != string(s.sha512) {
			return reject("the SHA-512 of its samples is %s, its manifest says %s", hex.EncodeToString(got), hex.EncodeToString(s.sha512))
		}
	}
	s.rest = data
	return nil
}
