package spool

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/protocol"
)

// identityName is a file with the identities once more. In the spool file all of them are in one page: without it the
// records in the others would be nobody's.
const identityName = "spool.identity"

// noteIdentities writes the identities beside the spool file. It is a copy for bad days, so a disk that does not take it
// stops nothing.
func (s *Spool) noteIdentities(epochs []*epoch) {
	content := encodeIdentities(epochs)
	path := filepath.Join(s.dir, identityName)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return
	}
	if err := wholefile.Write(path, content, 0o600, nil); err != nil {
		s.log.Debug("the copy of the identities could not be written", "error", err)
	}
}

// identitiesBeside reads the copy of the identities that is kept beside a spool file; nil when there is none that is sound. How
// far their numbers went is not in it.
func identitiesBeside(path string) []*epoch {
	content, err := os.ReadFile(filepath.Join(filepath.Dir(path), identityName))
	if err != nil {
		return nil
	}
	epochs := decodeIdentities(content)
	unbound(epochs)
	return epochs
}

// encodeIdentities is the number and the identity of each epoch, then a CRC-32C.
func encodeIdentities(epochs []*epoch) []byte {
	var b []byte
	for _, e := range epochs {
		b = append(binary.BigEndian.AppendUint32(b, e.number), e.identity[:]...)
	}
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

// decodeIdentities gives what encodeIdentities was given, but for the numbers; nothing of a file that is not sound.
func decodeIdentities(b []byte) []*epoch {
	const size = 4 + protocol.SpoolBytes
	if len(b) < 4 || (len(b)-4)%size != 0 || checksum(b[:len(b)-4]) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil
	}
	var epochs []*epoch
	for b = b[:len(b)-4]; len(b) > 0; b = b[size:] {
		e := &epoch{number: binary.BigEndian.Uint32(b), identity: [protocol.SpoolBytes]byte(b[4:size])}
		if n := len(epochs); n > 0 && epochs[n-1].number >= e.number {
			return nil
		}
		epochs = append(epochs, e)
	}
	return epochs
}
