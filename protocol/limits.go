package protocol

// Limits of the wire. A receiver refuses what is beyond them before it spends memory on it.
const (
	// MaxMessageBytes is the most bytes of one MQTT payload, compressed where it is a batch.
	MaxMessageBytes = 128 << 10
	// MaxChunkBytes is the most IQ bytes of one IqChunk.
	MaxChunkBytes = 32 << 10
	// MaxBatchRecords is the most records of one batch.
	MaxBatchRecords = 1000
	// MaxBatchBytes is the most bytes a batch may decompress to.
	MaxBatchBytes = 8 << 20
	// MaxSeq is the highest sequence number: the upper end of a PostgreSQL int8range is one more, and must fit.
	MaxSeq = 1<<63 - 2
	// MaxBins is the most bins of one spectrum.
	MaxBins = 1 << 16
	// MaxAckRanges is the most ranges of Ack.settled, MaxUnackedRanges those of Health.unacked.
	MaxAckRanges     = 512
	MaxUnackedRanges = 64
	// MaxElements is the most elements of any other list, and of all lists of one record together.
	MaxElements = 4096
	// MaxTextBytes is the most bytes of a name or code, MaxMessageTextBytes of a sentence for people.
	MaxTextBytes        = 256
	MaxMessageTextBytes = 1024
	// MinAcquisitionS is the shortest stretch that an acquisition asks for, in seconds: of a channel of 12.5 kHz it is 16 samples, of
	// less no spectrum says anything. MaxAcquisitionS is the longest.
	MinAcquisitionS = 0.001
	MaxAcquisitionS = 3600
	// MaxTimeAheadS is how far ahead of the receiver's clock a record's time may be.
	MaxTimeAheadS = 300
)

// SpoolBytes is the length of a spool identity.
const SpoolBytes = 8

// maxRecordFields is the most top-level fields of one encoded record: twelve are known, the rest is room for later.
const maxRecordFields = 256
