package spool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/protocol"
)

// unknownNext is the next number of a former identity of which nobody knows how far its numbers went: any may have been given.
const unknownNext = protocol.MaxSeq + 1

// epoch is one identity of the spool and what is known of its numbers.
type epoch struct {
	number   uint32 // counts the identities of this file
	identity [protocol.SpoolBytes]byte
	next     uint64          // the next number to give
	durable  uint64          // the highest number ever committed
	held     protocol.Ranges // committed and neither acknowledged nor deleted
	kept     protocol.Ranges // acknowledged and not deleted yet
	sent     protocol.Ranges // of held: handed out since the last Rewind
	offered  protocol.Ranges // of held: handed out since the spool was opened
	acked    protocol.Ranges // of held: acknowledged, and kept as soon as the writer has weighed them
	dying    protocol.Ranges // of held: settled or given up, deleted with the next commit
	noted    protocol.Ranges // acknowledged, as the file says; only while a file is opened
}

// settled is every committed number that is no longer held.
func (e *epoch) settled() protocol.Ranges {
	var given protocol.Ranges
	given.AddRange(1, e.durable)
	return given.Subtract(e.held)
}

func putEpoch(tx *bbolt.Tx, e *epoch) error {
	key := binary.BigEndian.AppendUint32(nil, e.number)
	value := binary.BigEndian.AppendUint64(append([]byte(nil), e.identity[:]...), e.next)
	value = binary.BigEndian.AppendUint32(value, checksum(key, value))
	return tx.Bucket(bucketMeta).Bucket(bucketEpochs).Put(key, value)
}

// putNext notes the next number of the current identity at the lanes that a commit writes to anyway: in their bucket's
// sequence, which costs no page of its own. putEpoch is needed only when a record is deleted that may be the last.
func putNext(tx *bbolt.Tx, lanes [laneCount]bool, current *epoch) (err error) {
	sealed := seal(current.number, current.next)
	for lane, written := range lanes {
		if written {
			err = errors.Join(err, tx.Bucket(laneBucket(lane)).SetSequence(sealed))
		}
	}
	return err
}

// sealBits is how many of a sequence are a checksum: one flipped bit would have numbers given twice, or never.
const sealBits = 16

// seal is the sequence that says the next number of an identity.
func seal(epoch uint32, next uint64) uint64 {
	text := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, epoch), next)
	return next<<sealBits | uint64(uint16(checksum(text)))
}

// unseal is the next number that a sequence says; 0 when it says none, false when it is not as it was written.
func unseal(epoch uint32, sequence uint64) (next uint64, sound bool) {
	next = sequence >> sealBits
	return next, sequence == 0 || next > 0 && seal(epoch, next) == sequence
}

// putIdentities writes all identities when there is a new one, which the numbers at the lanes do not speak of.
func putIdentities(tx *bbolt.Tx, epochs []*epoch) (err error) {
	for _, e := range epochs {
		err = errors.Join(err, putEpoch(tx, &epoch{number: e.number, identity: e.identity, next: e.durable + 1}))
	}
	for lane := range laneCount {
		err = errors.Join(err, tx.Bucket(laneBucket(lane)).SetSequence(0))
	}
	return err
}

func readEpoch(k, v []byte) (*epoch, error) {
	const plain = protocol.SpoolBytes + 8 // without a checksum: as it was written before there was one
	if len(k) != 4 || len(v) != plain && len(v) != plain+4 {
		return nil, fmt.Errorf("%w: identity of %d bytes", errDamaged, len(v))
	}
	if len(v) > plain && checksum(k, v[:plain]) != binary.BigEndian.Uint32(v[plain:]) {
		return nil, fmt.Errorf("%w: an identity is not as it was written", errDamaged)
	}
	e := &epoch{number: binary.BigEndian.Uint32(k), identity: [protocol.SpoolBytes]byte(v[:protocol.SpoolBytes])}
	e.next = binary.BigEndian.Uint64(v[protocol.SpoolBytes:])
	if e.next == 0 || e.next > unknownNext {
		return nil, fmt.Errorf("%w: next number %d", errDamaged, e.next)
	}
	return e, nil
}

// readEpochs reads the identities; none in a file that was never prepared.
func readEpochs(tx *bbolt.Tx) ([]*epoch, error) {
	format, err := readFormat(tx)
	if format == 0 || err != nil {
		return nil, err
	}
	meta := tx.Bucket(bucketMeta)
	bucket, acked := meta.Bucket(bucketEpochs), meta.Bucket(bucketAcked)
	if bucket == nil || acked == nil && format != formerFormat {
		return nil, fmt.Errorf("%w: no identities", errDamaged)
	}
	var epochs []*epoch
	err = bucket.ForEach(func(k, v []byte) error {
		e, err := readEpoch(k, v)
		if err != nil {
			return err
		}
		if acked != nil {
			e.noted = readAcked(k, acked.Get(k))
		}
		epochs = append(epochs, e)
		return nil
	})
	if err != nil || len(epochs) == 0 {
		return nil, err
	}
	current := epochs[len(epochs)-1]
	for lane := range laneCount {
		b := tx.Bucket(laneBucket(lane))
		if b == nil {
			continue // which is found out when all of the file is looked at
		}
		next, sound := unseal(current.number, b.Sequence())
		if !sound {
			return nil, fmt.Errorf("%w: the next number at lane %s is not as it was written", errDamaged, laneNames[lane])
		}
		current.next = max(current.next, next)
	}
	for _, e := range epochs {
		e.durable = e.next - 1
	}
	return epochs, nil
}
