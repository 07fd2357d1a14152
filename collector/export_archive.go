package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// toArchive writes all recordings into one archive. It is a stream: nothing of it is kept here, and nothing wrong can be
// taken back, so the first fault ends it.
func (c ExportRecordingsCmd) toArchive(ctx context.Context, s streams, choice recordingChoice, progress *exportProgress) error {
	if c.Output == "-" {
		if _, _, terminal := terminalSize(s.out); terminal {
			return usageError{errors.New("-o -: an archive is nothing for a terminal; send it elsewhere with > or |")}
		}
		return c.writeArchive(ctx, s.err, s.out, choice, progress)
	}
	return writeWhole(c.Output, func(w io.Writer) error { return c.writeArchive(ctx, s.err, w, choice, progress) })
}

// writeWhole writes a file that has its name only once it is whole.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	part, err := os.Create(name + partSuffix)
	if err != nil {
		return fmt.Errorf("begin a file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closed(part), os.Remove(part.Name()))
		}
	}()
	if err := write(part); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(name), err)
	}
	if err := part.Close(); err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(name), err)
	}
	if err := os.Rename(part.Name(), name); err != nil {
		return fmt.Errorf("name the whole file: %w", err)
	}
	return nil
}

func (c ExportRecordingsCmd) writeArchive(ctx context.Context, say, w io.Writer, choice recordingChoice, progress *exportProgress) error {
	out := archiveWriter{remote: c.remote, tar: tar.NewWriter(w), progress: progress}
	err := c.chosen(ctx, say, choice, func(list []protocol.Recording) error {
		for i := range list {
			if err := out.add(ctx, &list[i]); err != nil {
				return fmt.Errorf("recording %s of %s: %w", list[i].ID, list[i].Station, err)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(out.streams) == 0:
		return fmt.Errorf("%s; an archive holds at least one", choice.nothing())
	}
	if c.Acquisition != "" {
		text, err := acquisitionCollection(c.Acquisition, out.streams)
		if err != nil {
			return err
		}
		if err := out.file(path.Base(c.Acquisition)+protocol.SigMFCollectionExt, time.Now(), text); err != nil {
			return err
		}
	}
	if err := out.tar.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

// archiveWriter puts recordings into one archive, each into a folder of its own.
type archiveWriter struct {
	remote
	tar      *tar.Writer
	progress *exportProgress
	streams  []protocol.SigMFStream
}

// add copies one recording through.
func (a *archiveWriter) add(ctx context.Context, rec *protocol.Recording) error {
	base, err := baseName(rec)
	if err != nil {
		return err
	}
	address := "/api/v1/recordings/" + url.PathEscape(rec.ID)
	var meta metaBuffer
	if err := (transfer{remote: a.remote, path: address + protocol.SigMFMetaExt}).copy(ctx, &meta, 0); err != nil {
		return err
	}
	var hash string
	if err := checkMeta(rec, &hash)(bytes.NewReader(meta.Bytes()), int64(meta.Len())); err != nil {
		return err
	}
	stored, err := time.Parse(time.RFC3339Nano, rec.Stored)
	if err != nil {
		stored = time.Unix(0, 0) // a row from elsewhere: the archive does not depend on it
	}
	name := path.Join(base, base)
	if err := a.file(name+protocol.SigMFMetaExt, stored, meta.Bytes()); err != nil {
		return err
	}
	if err := a.header(name+protocol.SigMFDataExt, stored, int64(rec.Bytes)); err != nil {
		return err
	}
	sum := sha512.New()
	a.progress.start(base+protocol.SigMFDataExt, rec.Bytes, 0)
	samples := transfer{a.remote, address + protocol.SigMFDataExt, a.progress.add}
	if err := samples.copy(ctx, io.MultiWriter(a.tar, sum), 0); err != nil {
		return err
	}
	a.streams = append(a.streams, protocol.SigMFStream{Name: base, Hash: hash})
	return sameHash(rec, hex.EncodeToString(sum.Sum(nil)))
}

// metaBuffer holds metadata, and not more than the largest there may be.
type metaBuffer struct{ bytes.Buffer }

func (b *metaBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > protocol.MaxSigMFBytes {
		return 0, badFile("its metadata is larger than %d bytes", protocol.MaxSigMFBytes)
	}
	return b.Buffer.Write(p)
}

func (a *archiveWriter) file(name string, modified time.Time, text []byte) error {
	if err := a.header(name, modified, int64(len(text))); err != nil {
		return err
	}
	if _, err := a.tar.Write(text); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (a *archiveWriter) header(name string, modified time.Time, size int64) error {
	err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: modified.UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
