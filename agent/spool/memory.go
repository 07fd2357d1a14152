package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// memoryCommands is how many command ids are remembered with their last reply.
const memoryCommands = 1000

// memory is the last commands and what was answered.
type memory struct {
	replies map[string]memo
	order   []string // oldest first
	next    uint64   // order number of the next new id
}

type memo struct {
	order uint64
	reply []byte
}

// recollection is one command on its way to disk.
type recollection struct {
	id string
	memo
	forget *memo // the oldest, pushed out
}

func newMemory() *memory { return &memory{replies: map[string]memo{}, next: 1} }

// loadMemory reads the commands. What is not as written is left out: an agent executes such a command once more at most.
func loadMemory(tx *bbolt.Tx) (*memory, error) {
	m := newMemory()
	order, commands := tx.Bucket(bucketCommandOrder), tx.Bucket(bucketCommand)
	if order == nil || commands == nil {
		return nil, fmt.Errorf("%w: no commands", errDamaged)
	}
	err := order.ForEach(func(k, id []byte) error {
		if len(k) != 8 {
			return nil
		}
		n := binary.BigEndian.Uint64(k)
		m.next = max(m.next, n+1)
		v := commands.Get(id)
		if len(v) < 4 || checksum(id, v[4:]) != binary.BigEndian.Uint32(v) {
			return nil
		}
		m.replies[string(id)] = memo{order: n, reply: bytes.Clone(v[4:])}
		m.order = append(m.order, string(id))
		return nil
	})
	return m, err
}

// note keeps a reply in memory and tells what to write.
func (m *memory) note(id string, reply []byte) recollection {
	if old, ok := m.replies[id]; ok {
		old.reply = reply
		m.replies[id] = old
		return recollection{id: id, memo: old}
	}
	r := recollection{id: id, memo: memo{order: m.next, reply: reply}}
	m.next++
	m.replies[id] = r.memo
	m.order = append(m.order, id)
	if len(m.order) > memoryCommands {
		oldest := m.replies[m.order[0]]
		delete(m.replies, m.order[0])
		m.order = m.order[1:]
		r.forget = &oldest
	}
	return r
}

func (r recollection) write(tx *bbolt.Tx) error {
	order, commands := tx.Bucket(bucketCommandOrder), tx.Bucket(bucketCommand)
	id := []byte(r.id)
	value := binary.BigEndian.AppendUint32(nil, checksum(id, r.reply))
	err := errors.Join(
		commands.Put(id, append(value, r.reply...)),
		order.Put(binary.BigEndian.AppendUint64(nil, r.order), id),
	)
	if r.forget != nil {
		key := binary.BigEndian.AppendUint64(nil, r.forget.order)
		err = errors.Join(err, commands.Delete(bytes.Clone(order.Get(key))), order.Delete(key))
	}
	return err
}
