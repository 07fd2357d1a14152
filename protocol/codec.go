package protocol

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Numbers of the fields that this file reads or writes without the generated code.
const (
	fieldRecordSpool  protowire.Number = 2
	fieldRecordSeq    protowire.Number = 3
	fieldRecordHealth protowire.Number = 19
	fieldRecordGap    protowire.Number = 20
	fieldRecordReply  protowire.Number = 22
)

// Encode is the deterministic protobuf encoding of a Record, Ack or Command.
// It fails on text that is not UTF-8. Of a measurement it leaves out what Decode puts back: see heimdall.proto.
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(brief(m))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// Seal gives an encoded record its identity: it appends spool and seq to a copy of payload. The concatenation is
// valid protobuf, and where the payload has an identity already the new one wins.
func Seal(payload []byte, spool [SpoolBytes]byte, seq uint64) []byte {
	b := make([]byte, len(payload), len(payload)+1+1+SpoolBytes+1+10)
	copy(b, payload)
	b = protowire.AppendTag(b, fieldRecordSpool, protowire.BytesType)
	b = protowire.AppendBytes(b, spool[:])
	b = protowire.AppendTag(b, fieldRecordSeq, protowire.VarintType)
	return protowire.AppendVarint(b, seq)
}

// Decode reads a record from protobuf, or from JSON when the first byte is '{'. It proves the form only; call
// Validate before trusting the content. Every failure is an *Error.
func Decode(payload []byte) (*Record, error) {
	rec := readMeasurement(payload)
	if rec == nil {
		rec = new(Record)
		if err := decode(payload, rec); err != nil {
			return nil, err
		}
	}
	if m := rec.GetMeasurement(); m != nil {
		m.complete()
	}
	return rec, nil
}

// DecodeAck reads an acknowledgement from protobuf or JSON. Every failure is an *Error.
func DecodeAck(payload []byte) (*Ack, error) {
	ack := new(Ack)
	if err := decode(payload, ack); err != nil {
		return nil, err
	}
	return ack, nil
}

// DecodeCommand reads a command from protobuf or JSON. Every failure is an *Error.
func DecodeCommand(payload []byte) (*Command, error) {
	cmd := new(Command)
	if err := decode(payload, cmd); err != nil {
		return nil, err
	}
	return cmd, nil
}

// Digest tells whether two records under one number are the same: the first 8 bytes of the SHA-256 of the
// deterministic encoding of all its fields. It does not depend on whether the record travelled as protobuf, as JSON or in a batch.
func Digest(rec *Record) [8]byte {
	buffer, ok := digestBuffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	defer digestBuffers.Put(buffer)
	// Text that is not UTF-8 is the only thing that cannot be encoded. No decoded record holds any, and for one made
	// by hand the digest of what could be encoded serves.
	b, _ := proto.MarshalOptions{Deterministic: true}.MarshalAppend((*buffer)[:0], rec)
	sum := sha256.Sum256(b)
	*buffer = b
	return [8]byte(sum[:8])
}

// digestBuffers spare Digest an allocation a record.
var digestBuffers sync.Pool

// decode reads one payload into an empty message.
func decode(payload []byte, m proto.Message) error {
	switch {
	case len(payload) == 0:
		return refuse(CodeMalformed, "", nil, "empty payload: send protobuf or JSON")
	case len(payload) > MaxMessageBytes:
		return refuse(CodeTooLarge, "", nil, "%d bytes, at most %d in one message", len(payload), MaxMessageBytes)
	case payload[0] == '{':
		return UnmarshalJSON(payload, m)
	}
	if _, ok := m.(*Record); ok {
		if err := checkShape(payload); err != nil {
			return err
		}
	}
	if err := proto.Unmarshal(payload, m); err != nil {
		return refuse(CodeMalformed, "", nil, "not a protobuf %s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// checkShape refuses an encoded record that would take far more memory decoded than encoded: an empty element of a
// list is 2 bytes on the wire and 72 in memory, and a batch holds up to 8 MiB of them.
func checkShape(payload []byte) error {
	fields, elements := 0, 0
	for b := payload; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return badWire(n)
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return badWire(n)
		}
		if fields++; fields > maxRecordFields {
			return refuse(CodeTooMany, "", nil, "more than %d fields in one record", maxRecordFields)
		}
		if typ == protowire.BytesType {
			if md := bodyWithLists(num); md != nil {
				value, _ := protowire.ConsumeBytes(b)
				elements += countElements(value, md)
			}
		}
		if elements > MaxElements {
			return refuse(CodeTooMany, "", nil, "more than %d elements in the lists of one record", MaxElements)
		}
		b = b[n:]
	}
	return nil
}

// bodyWithLists is the type of a record's field when it holds lists of messages; nil for all others.
func bodyWithLists(num protowire.Number) protoreflect.MessageDescriptor {
	if num == fieldRecordHealth {
		return (*Health)(nil).ProtoReflect().Descriptor()
	}
	if num == fieldRecordGap {
		return (*Gap)(nil).ProtoReflect().Descriptor()
	}
	if num == fieldRecordReply {
		return (*Reply)(nil).ProtoReflect().Descriptor()
	}
	return nil
}

// countElements counts the messages inside an encoded message, at all depths. What cannot be read is not counted: the
// decoder refuses it. The schema has no recursion, so neither has this beyond its depth.
func countElements(b []byte, md protoreflect.MessageDescriptor) int {
	count := 0
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			return count
		}
		if typ == protowire.BytesType {
			if fd := md.Fields().ByNumber(num); fd != nil && fd.Message() != nil {
				_, _, tag := protowire.ConsumeTag(b)
				value, _ := protowire.ConsumeBytes(b[tag:])
				count += 1 + countElements(value, fd.Message())
			}
		}
		b = b[n:]
	}
	return count
}

func badWire(n int) error {
	return refuse(CodeMalformed, "", nil, "not a protobuf Record: %v", protowire.ParseError(n))
}
