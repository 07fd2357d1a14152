package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/fulgidus/heimdall/packaging/failpoint"
	"github.com/fulgidus/heimdall/protocol"
)

// readySuffix is that of a whole replacement that waits for the damaged file to go.
const readySuffix = ".ready"

// replace makes a sound file of a damaged one: it takes over what can be read, begins a new identity, and tells in Gap records
// what is lost. known are the identities when they are known from before, nil when the file was just opened.
//
// The new file is whole, Gap records included, before the damaged one goes aside: a crash leaves the damaged file, to begin
// again with, or the replacement, to go on with.
func (s *Spool) replace(cause error, known []*epoch) error {
	path := filepath.Join(s.dir, fileName)
	what := damageOf(path, cause)
	known, toll, err := s.rebuild(path, cause, known)
	if err != nil {
		return err
	}
	failpoint.Hit("spool.ready")
	aside, err := s.moveAside(path)
	if err != nil {
		return err
	}
	failpoint.Hit("spool.aside")
	if err := s.rename(path+readySuffix, path); err != nil {
		return fmt.Errorf("replace the damaged spool: %w", err)
	}
	st, err := openStore(path, s.maxFileBytes(), false)
	if err != nil {
		return err
	}
	c, err := st.load()
	if err != nil {
		return errors.Join(err, st.close())
	}
	if err := s.adopt(st, c); err != nil {
		return err
	}
	about := []any{"path", path, "error", what, "put_aside", aside, "records_saved", toll.saved, "records_lost", toll.lost()}
	if toll.saved > 0 {
		s.log.Error("the spool file was damaged: it was put aside, and what could be read was saved; look after the disk", about...)
	} else {
		s.log.Error("the spool file was damaged: it was put aside, and nothing in it could be read; look after the disk", about...)
	}
	s.log.Debug("what the spool file was found damaged by", "error", cause)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps = map[gapKey]*openGap{}
	for _, e := range known {
		s.epochNumber(e.number).durable = e.durable
	}
	return nil
}

// toll is what became of the records of a damaged file.
type toll struct {
	saved  int64
	most   uint64 // may be lost: numbers that are neither saved, nor known to be acknowledged, nor declared before
	beyond bool   // how far the numbers went is not known
}

// lost says how many records are lost, as far as that is known.
func (t toll) lost() string {
	switch {
	case t.beyond:
		return "unknown"
	case t.most > 0:
		return fmt.Sprintf("at most %d", t.most)
	}
	return "none"
}

// rebuild makes the replacement of a damaged file, ready beside it, and tells which identities that had.
func (s *Spool) rebuild(path string, cause error, known []*epoch) ([]*epoch, toll, error) {
	readable := !errors.Is(cause, errFormat)
	var from *salvager
	var wanted map[uint32]protocol.Ranges
	if !readable {
		known = identitiesBeside(path)
	} else {
		var err error
		if from, err = newSalvager(path); err != nil {
			return nil, toll{}, err
		}
		defer from.close()
		if known == nil {
			known = from.epochs()
		} else {
			wanted = map[uint32]protocol.Ranges{}
			for _, e := range known {
				wanted[e.number] = e.held.Union(e.kept)
			}
		}
	}
	fresh := epochAfter(known)
	var t toll
	err := s.makeFile(path+readySuffix, append(slices.Clone(known), fresh), func(st *store) (err error) {
		if readable {
			if err := from.salvage(st, known, wanted); err != nil {
				return err
			}
		}
		if t, err = s.declareIn(st, known, fresh); readable {
			t.saved = from.saved
		}
		return err
	})
	return known, t, err
}

// declareIn writes into a new file, under its new identity, which numbers of the former ones are not in it. Acknowledged ones
// are among them, because the damaged file is no witness: at the collector, stored wins. Where it is not known how far the
// numbers went, that is all numbers there are; a Gap without ranges tells that not even the identities are known. What a Gap
// record in the new file calls lost with a former damage is declared already.
func (s *Spool) declareIn(st *store, known []*epoch, fresh *epoch) (toll, error) {
	c, err := st.load()
	if err != nil {
		return toll{}, err
	}
	declared, err := declaredBy(st, c.epochs)
	if err != nil {
		return toll{}, err
	}
	t := toll{beyond: len(known) == 0}
	var losses []loss
	for _, e := range known {
		var lost protocol.Ranges
		lost.AddRange(1, e.durable)
		has := c.epoch(e.number)
		lost = lost.Subtract(has.held).Subtract(has.kept).Subtract(declared[e.identity])
		t.most += lost.Subtract(e.noted).Count()
		t.beyond = t.beyond || lost.Contains(protocol.MaxSeq)
		for !lost.Empty() {
			part := lost.Head(maxGapRanges)
			lost = lost[len(part):]
			losses = append(losses, loss{reason: protocol.Gap_REASON_SPOOL_LOST, epoch: e, ranges: part})
		}
	}
	if len(known) == 0 {
		losses = append(losses, loss{reason: protocol.Gap_REASON_SPOOL_LOST, epoch: fresh})
	}
	return t, st.update(func(tx *bbolt.Tx) error {
		bucket, written := tx.Bucket(laneBucket(LaneGap.index())), *fresh
		for _, l := range losses {
			at, now := place{written.number, written.next}, s.now()
			written.next++
			payload, err := s.encodeGap(l, at, now)
			if err != nil {
				return err
			}
			if err := bucket.Put(at.key(), record{kind: protocol.KindGap, time: now.UnixNano(), payload: payload}.encode(at.key())); err != nil {
				return err
			}
		}
		return putEpoch(tx, &written)
	})
}

// declaredBy is which numbers of each identity the Gap records in a file call lost with a former damage.
func declaredBy(st *store, epochs []*epoch) (map[[protocol.SpoolBytes]byte]protocol.Ranges, error) {
	declared := map[[protocol.SpoolBytes]byte]protocol.Ranges{}
	own := map[uint32][protocol.SpoolBytes]byte{}
	for _, e := range epochs {
		own[e.number] = e.identity
	}
	err := st.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(laneBucket(LaneGap.index())).ForEach(func(k, v []byte) error {
			p, ok := placeOf(k)
			r, err := decodeRecord(k, v)
			if !ok || err != nil {
				return nil //nolint:nilerr // one that nobody will be able to read names nothing
			}
			rec, err := protocol.Decode(r.payload)
			if err != nil || rec.GetGap().GetReason() != protocol.Gap_REASON_SPOOL_LOST {
				return nil //nolint:nilerr // the same; and one for another reason may promise the record elsewhere, which is lost now
			}
			of := own[p.epoch]
			if named := rec.GetGap().GetSpool(); len(named) == protocol.SpoolBytes {
				of = [protocol.SpoolBytes]byte(named)
			}
			declared[of] = declared[of].Union(protocol.RangesOf(rec.GetGap().GetRanges()))
			return nil
		})
	})
	return declared, err
}

// moveAside renames the damaged file and removes those moved aside before: one is enough to look into.
func (s *Spool) moveAside(path string) (string, error) {
	older, _ := filepath.Glob(filepath.Join(s.dir, badPrefix+"*")) // fails only for a bad pattern
	aside := filepath.Join(s.dir, badPrefix+s.now().UTC().Format("20060102T150405.000000000Z")+".db")
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("move the damaged spool aside: %w", err)
	}
	for _, name := range older {
		os.Remove(name)
	}
	return aside, syncDir(s.dir)
}
