package protocol

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// The ends of file names in SigMF.
const (
	SigMFMetaExt    = ".sigmf-meta"
	SigMFDataExt    = ".sigmf-data"
	SigMFArchiveExt = ".sigmf"
)

// maxArchiveEntries is the most files of an archive that are looked at.
const maxArchiveEntries = 10000

// SigMFRecording is one recording of an archive.
type SigMFRecording struct {
	Name string // path in the archive without extension
	Meta *SigMF
	Data *io.SectionReader // nil where the archive holds metadata only
}

// ReadSigMFArchive finds the recordings of a .sigmf archive, an uncompressed tar, in the order of their metadata. The
// data is not read; each recording's Data reads it from r. Errors are those of r, an *Error, or FieldErrors wrapped
// with the entry's name.
func ReadSigMFArchive(r io.ReaderAt, size int64) ([]SigMFRecording, error) {
	section := io.NewSectionReader(r, 0, size)
	entries := tar.NewReader(section)
	data := make(map[string]*io.SectionReader)
	var recordings []SigMFRecording
	for n := 0; ; n++ {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refuse(CodeMalformed, "archive", nil, "not a tar archive: %v", err)
		}
		if n >= maxArchiveEntries {
			return nil, refuse(CodeTooMany, "archive", nil, "more than %d files", maxArchiveEntries)
		}
		name := path.Clean(header.Name)
		base, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
		if header.Typeflag != tar.TypeReg || ext != SigMFMetaExt && ext != SigMFDataExt {
			continue
		}
		if ext == SigMFMetaExt {
			meta, err := ReadSigMF(entries)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			recordings = append(recordings, SigMFRecording{Name: base, Meta: meta})
			continue
		}
		// The tar reader takes from the section nothing beyond the header, so the data begins where the section is.
		start, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if header.Size > size-start {
			return nil, refuse(CodeMalformed, "archive", name, "%d bytes are missing at the end", header.Size-(size-start))
		}
		for key := range header.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return nil, refuse(CodeMalformed, "archive", name, "stored with holes: pack it again without --sparse")
			}
		}
		data[base] = io.NewSectionReader(r, start, header.Size)
	}
	if len(recordings) == 0 {
		return nil, refuse(CodeMalformed, "archive", nil, "no %s inside", SigMFMetaExt)
	}
	for i := range recordings {
		recordings[i].Data = data[recordings[i].Name]
	}
	return recordings, nil
}
