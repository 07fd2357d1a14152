package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"
)

// tarBlock is the size that everything in a tar file is padded to.
const tarBlock = 512

// OpenArchive opens a recording as one SigMF archive: a tar file that holds a directory, called name, with the
// metadata and the samples. It is put together while it is read, and may be read from any offset. The error wraps [fs.ErrNotExist] when
// there is no such recording.
func (a *Archive) OpenArchive(ctx context.Context, key, name string) (io.ReadSeekCloser, error) {
	joined := &joined{}
	for _, suffix := range []string{metaSuffix, dataSuffix} {
		file, err := a.objects.open(ctx, key+suffix)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", key+suffix, err), joined.Close())
		}
		joined.parts = append(joined.parts, nil, file)
		if err := joined.header(path.Join(name, name+suffix), file.size(), file.modified()); err != nil {
			return nil, errors.Join(err, joined.Close())
		}
	}
	joined.literal(make([]byte, 2*tarBlock)) // the end of a tar file
	return joined, nil
}

// joined reads several seekable parts as one.
type joined struct {
	parts  []io.ReadSeekCloser
	sizes  []int64
	length int64
	offset int64
}

// header fills the place before the last part with its tar header, and pads the part.
func (j *joined) header(name string, size int64, modified time.Time) error {
	var head bytes.Buffer
	err := tar.NewWriter(&head).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: modified.UTC().Truncate(time.Second),
	})
	if err != nil {
		return fmt.Errorf("write tar header of %s: %w", name, err)
	}
	j.parts[len(j.parts)-2] = literal{bytes.NewReader(head.Bytes())}
	j.sizes = append(j.sizes, int64(head.Len()), size)
	j.length += int64(head.Len()) + size
	j.literal(make([]byte, (tarBlock-size%tarBlock)%tarBlock))
	return nil
}

// literal adds bytes.
func (j *joined) literal(data []byte) {
	j.parts = append(j.parts, literal{bytes.NewReader(data)})
	j.sizes = append(j.sizes, int64(len(data)))
	j.length += int64(len(data))
}

func (j *joined) Read(p []byte) (int, error) {
	start := int64(0)
	for i, size := range j.sizes {
		if j.offset >= start+size {
			start += size
			continue
		}
		inside := j.offset - start
		if _, err := j.parts[i].Seek(inside, io.SeekStart); err != nil {
			return 0, err
		}
		n, err := j.parts[i].Read(p[:min(int64(len(p)), size-inside)])
		j.offset += int64(n)
		if errors.Is(err, io.EOF) {
			err = nil
			if n == 0 && len(p) > 0 { // shorter than it was when it was opened
				err = io.ErrUnexpectedEOF
			}
		}
		return n, err
	}
	return 0, io.EOF
}

func (j *joined) Seek(offset int64, whence int) (int64, error) {
	target, err := seekTarget(offset, whence, j.offset, j.length)
	if err != nil {
		return 0, err
	}
	j.offset = target
	return target, nil
}

func (j *joined) Close() error {
	var errs []error
	for _, part := range j.parts {
		if part != nil {
			errs = append(errs, part.Close())
		}
	}
	return errors.Join(errs...)
}

// literal is bytes in memory as a part.
type literal struct{ *bytes.Reader }

func (literal) Close() error { return nil }
