package main

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// partSuffix ends the name of a file that is not whole yet.
const partSuffix = ".part"

// exportFolder is a folder that recordings are saved in.
type exportFolder struct {
	remote
	dir      string
	progress *exportProgress
	streams  []protocol.SigMFStream // what is there as separate files
}

// wanted is one file to save.
type wanted struct {
	name string // in the folder
	path string // at the collector
	size uint64 // about, for showing
	// check tells whether a file is what is wanted.
	check func(file io.ReaderAt, size int64) error
}

// save makes sure that a recording is in the folder: samples first, so that nothing there describes what is not there.
func (f *exportFolder) save(ctx context.Context, rec *protocol.Recording, archive bool) (*exported, error) {
	base, err := baseName(rec)
	if err != nil {
		return nil, err
	}
	address := "/api/v1/recordings/" + url.PathEscape(rec.ID)
	e := &exported{Recording: rec.ID, Station: rec.Station, Bytes: rec.Bytes}
	var hash string
	files := []wanted{
		{base + protocol.SigMFDataExt, address + protocol.SigMFDataExt, rec.Bytes, checkSamples(rec)},
		{base + protocol.SigMFMetaExt, address + protocol.SigMFMetaExt, 0, checkMeta(rec, &hash)},
	}
	if archive {
		files = []wanted{{base + protocol.SigMFArchiveExt, address + protocol.SigMFArchiveExt, rec.Bytes, checkPacked(rec)}}
	}
	for _, file := range files {
		fresh, err := f.get(ctx, file)
		if err != nil {
			return nil, err
		}
		e.Files = append(e.Files, filepath.Join(f.dir, file.name))
		e.New = e.New || fresh
	}
	if !archive {
		f.streams = append(f.streams, protocol.SigMFStream{Name: base, Hash: hash})
	}
	return e, nil
}

// saveCollection writes the file that groups what was saved.
func (f *exportFolder) saveCollection(acquisition string) error {
	text, err := acquisitionCollection(acquisition, f.streams)
	if err != nil {
		return err
	}
	path := filepath.Join(f.dir, filepath.Base(acquisition)+protocol.SigMFCollectionExt)
	if err := os.WriteFile(path+partSuffix, text, 0o666); err != nil {
		return fmt.Errorf("write the collection: %w", err)
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return fmt.Errorf("write the collection: %w", err)
	}
	return nil
}

func acquisitionCollection(acquisition string, streams []protocol.SigMFStream) ([]byte, error) {
	text, err := protocol.SigMFCollection{
		Version: protocol.SigMFVersion, Streams: streams, Acquisition: acquisition,
		Description: "The same stretch of time at several stations: acquisition " + acquisition,
	}.Encode()
	if err != nil {
		return nil, fmt.Errorf("write the collection of %s: %w", acquisition, err)
	}
	return text, nil
}

// get makes sure that a file is in the folder, whole and right, and tells whether it was not there before.
func (f *exportFolder) get(ctx context.Context, w wanted) (fresh bool, err error) {
	final := filepath.Join(f.dir, w.name)
	there, err := isThere(final, w.check)
	if there || err != nil {
		return false, err
	}
	part, err := os.OpenFile(final+partSuffix, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return false, fmt.Errorf("begin a file: %w", err)
	}
	defer func() { err = errors.Join(err, closed(part)) }()
	if err := f.fill(ctx, part, w); err != nil {
		return false, err
	}
	if err := part.Sync(); err != nil {
		return false, fmt.Errorf("store %s: %w", w.name, err)
	}
	if err := part.Close(); err != nil { // before the rename, which some systems refuse for an open file
		return false, fmt.Errorf("store %s: %w", w.name, err)
	}
	if err := os.Rename(part.Name(), final); err != nil {
		return false, fmt.Errorf("name the whole file: %w", err)
	}
	return true, nil
}

// closed closes a file that may be closed already.
func closed(f *os.File) error {
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// isThere tells whether a file is there and right. One that is wrong is as good as none.
func isThere(path string, check func(io.ReaderAt, int64) error) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at what is there: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("look at what is there: %w", err)
	}
	return check(file, info.Size()) == nil, nil
}

// fill gets what the file lacks. If it then is wrong, what was there before is not trusted, and all is fetched again.
func (f *exportFolder) fill(ctx context.Context, part *os.File, w wanted) error {
	for {
		had, err := part.Seek(0, io.SeekEnd)
		if err != nil {
			return fmt.Errorf("go on with %s: %w", w.name, err)
		}
		f.progress.start(w.name, w.size, uint64(had))
		if err := (transfer{f.remote, w.path, f.progress.add}).copy(ctx, part, had); err != nil {
			return err
		}
		size, err := part.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("go on with %s: %w", w.name, err)
		}
		wrong := w.check(part, size)
		if wrong == nil {
			return nil
		}
		if err := part.Truncate(0); err != nil {
			return fmt.Errorf("begin %s again: %w", w.name, err)
		}
		if had == 0 {
			return errors.Join(wrong, part.Close(), os.Remove(part.Name()))
		}
	}
}

// checkSamples compares samples with the recording's hash.
func checkSamples(rec *protocol.Recording) func(io.ReaderAt, int64) error {
	return func(file io.ReaderAt, size int64) error {
		if uint64(size) != rec.Bytes {
			return badFile("its samples are %d bytes and not %d", size, rec.Bytes)
		}
		sum := sha512.New()
		if _, err := io.Copy(sum, io.NewSectionReader(file, 0, size)); err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		return sameHash(rec, hex.EncodeToString(sum.Sum(nil)))
	}
}

func sameHash(rec *protocol.Recording, got string) error {
	if !strings.EqualFold(got, rec.SHA512) {
		return badFile("the SHA-512 of its samples is %.16s… and not %.16s…", got, rec.SHA512)
	}
	return nil
}

// checkMeta compares metadata with the recording, and takes the metadata's own hash.
func checkMeta(rec *protocol.Recording, hash *string) func(io.ReaderAt, int64) error {
	return func(file io.ReaderAt, size int64) error {
		sum := sha512.New()
		meta, err := protocol.ReadSigMF(io.TeeReader(io.NewSectionReader(file, 0, size), sum))
		if err != nil {
			return badFile("its metadata: %v", err)
		}
		*hash = hex.EncodeToString(sum.Sum(nil))
		return sameHash(rec, meta.Global.SHA512)
	}
}

// checkPacked compares what an archive holds with the recording.
func checkPacked(rec *protocol.Recording) func(io.ReaderAt, int64) error {
	return func(file io.ReaderAt, size int64) error {
		found, err := protocol.ReadSigMFArchive(file, size)
		if err != nil {
			return badFile("its archive: %v", err)
		}
		if len(found) != 1 || found[0].Data == nil {
			return badFile("its archive holds something else than one recording")
		}
		if err := sameHash(rec, found[0].Meta.Global.SHA512); err != nil {
			return err
		}
		return checkSamples(rec)(found[0].Data, found[0].Data.Size())
	}
}
