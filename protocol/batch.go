package protocol

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

const fieldRecordsRecord protowire.Number = 1

// compressorWindow is how far back the compressor looks for what is repeated. It keeps as much in memory as long as the
// process lives; the agent's batches are half of that.
const compressorWindow = 256 << 10

// The compressor and the decompressor are made once, because each costs a megabyte; both may be used by many at once.
var (
	batchCompressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(compressorWindow),
		)
	})
	batchDecompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(0),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxBatchBytes),
			zstd.WithDecoderMaxWindow(MaxBatchBytes),
		)
	})
)

// EncodeBatch packs sealed records into the payload of a batch topic. When they are more than a batch may hold the
// error's code is CodeTooMany or CodeTooLarge: send half of them.
func EncodeBatch(sealed [][]byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, refuse(CodeMalformed, "", nil, "a batch of no records")
	}
	if len(sealed) > MaxBatchRecords {
		return nil, refuse(CodeTooMany, "", nil, "%d records, at most %d in a batch", len(sealed), MaxBatchRecords)
	}
	size := 0
	for i, p := range sealed {
		if len(p) > MaxMessageBytes {
			return nil, refuse(CodeTooLarge, fmt.Sprintf("records[%d]", i), nil,
				"%d bytes, at most %d in one record", len(p), MaxMessageBytes)
		}
		size += protowire.SizeTag(fieldRecordsRecord) + protowire.SizeBytes(len(p))
	}
	if size > MaxBatchBytes {
		return nil, refuse(CodeTooLarge, "", nil, "%d bytes before compression, at most %d in a batch", size, MaxBatchBytes)
	}
	raw := make([]byte, 0, size)
	for _, p := range sealed {
		raw = protowire.AppendTag(raw, fieldRecordsRecord, protowire.BytesType)
		raw = protowire.AppendBytes(raw, p)
	}
	compressor, err := batchCompressor()
	if err != nil {
		return nil, fmt.Errorf("make the batch compressor: %w", err)
	}
	out := compressor.EncodeAll(raw, make([]byte, 0, size/2))
	if len(out) > MaxMessageBytes {
		return nil, refuse(CodeTooLarge, "", nil, "%d bytes compressed, at most %d in one message", len(out), MaxMessageBytes)
	}
	return out, nil
}

// BatchError lists the records of a batch that could not be decoded; those that could are returned beside it.
type BatchError struct {
	Bad []BadRecord
}

// BadRecord is one undecodable record of a batch.
type BadRecord struct {
	Index   int    // position in the batch, from 0
	Payload []byte // its bytes
	Err     error  // an *Error
}

func (e *BatchError) Error() string {
	if len(e.Bad) == 0 {
		return "batch"
	}
	return fmt.Sprintf("%d records of the batch are bad; the first is number %d: %v", len(e.Bad), e.Bad[0].Index, e.Bad[0].Err)
}

// Unwrap gives the error of each bad record.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Bad))
	for i, b := range e.Bad {
		errs[i] = b.Err
	}
	return errs
}

// DecodeBatch unpacks the payload of a batch topic. One bad record never blocks the others: then the good ones are
// returned together with a *BatchError. Any other failure is an *Error and returns no record.
func DecodeBatch(payload []byte) ([]*Record, error) {
	if len(payload) > MaxMessageBytes {
		return nil, refuse(CodeTooLarge, "", nil, "%d bytes, at most %d in one message", len(payload), MaxMessageBytes)
	}
	decompressor, err := batchDecompressor()
	if err != nil {
		return nil, fmt.Errorf("make the batch decompressor: %w", err)
	}
	raw, err := decompressor.DecodeAll(payload, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, refuse(CodeTooLarge, "", nil, "more than %d bytes decompressed", MaxBatchBytes)
	case err != nil:
		return nil, refuse(CodeMalformed, "", nil, "not a zstd frame: %v", err)
	}
	return decodeRecords(raw)
}

// decodeRecords reads the decompressed batch.
func decodeRecords(raw []byte) ([]*Record, error) {
	payloads, rest, err := splitRecords(raw)
	if err != nil {
		return nil, err
	}
	var bad []BadRecord
	records := make([]*Record, 0, len(payloads))
	for i, p := range payloads {
		rec, err := Decode(p)
		if err != nil {
			bad = append(bad, BadRecord{Index: i, Payload: p, Err: err})
			continue
		}
		records = append(records, rec)
	}
	if len(rest) > 0 {
		bad = append(bad, BadRecord{Index: len(payloads), Payload: rest, Err: refuse(CodeMalformed, "", nil, "the batch ends inside a record")})
	}
	if len(records) == 0 && len(bad) == 0 {
		return nil, refuse(CodeMalformed, "", nil, "a batch of no records")
	}
	if len(bad) > 0 {
		return records, &BatchError{Bad: bad}
	}
	return records, nil
}

// splitRecords finds the records' bytes; rest is what no longer reads as a field.
func splitRecords(raw []byte) (payloads [][]byte, rest []byte, err error) {
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeField(raw)
		if n < 0 {
			return payloads, raw, nil
		}
		if num == fieldRecordsRecord && typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(raw)
			value, _ := protowire.ConsumeBytes(raw[tag:])
			payloads = append(payloads, value)
		}
		if len(payloads) > MaxBatchRecords {
			return nil, nil, refuse(CodeTooMany, "", nil, "more than %d records in a batch", MaxBatchRecords)
		}
		raw = raw[n:]
	}
	return payloads, nil, nil
}
