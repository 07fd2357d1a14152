package protocol

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Arrival is a place in the order in which a database got its records: by the time of their arrival, to the microsecond, then
// by kind, station, spool and number. Without a kind it is the place before all that arrived at its time.
type Arrival struct {
	Received time.Time
	Kind     Kind
	Station  string
	Spool    []byte
	Seq      uint64
}

// ArrivalOf is the place of a stored record.
func ArrivalOf(r *StoredRecord) Arrival {
	return Arrival{
		Received: r.Received.UTC().Truncate(time.Microsecond), Kind: r.Record.Kind(), Station: r.Record.GetStation(), Spool: r.Record.GetSpool(), Seq: r.Record.GetSeq(),
	}
}

// arrivalTime is RFC 3339 to the microsecond.
const arrivalTime = "2006-01-02T15:04:05.000000Z"

// String is the place as text: TIME or TIME/KIND/STATION/SPOOL/SEQ.
func (a Arrival) String() string {
	at := a.Received.UTC().Format(arrivalTime)
	if a.Kind == "" {
		return at
	}
	return fmt.Sprintf("%s/%s/%s/%s/%d", at, a.Kind, a.Station, hex.EncodeToString(a.Spool), a.Seq)
}

// ParseArrival reads what String wrote. The time may have any number of decimals.
func ParseArrival(text string) (Arrival, error) {
	advice := FieldError{Value: text, Message: "want TIME or TIME/KIND/STATION/SPOOL/SEQ, such as 2026-11-24T02:00:05.250000Z"}
	at, rest, exact := strings.Cut(text, "/")
	received, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || received.Year() < 1970 || received.Year() > 2200 {
		return Arrival{}, advice
	}
	a := Arrival{Received: received.UTC().Truncate(time.Microsecond)}
	if !exact {
		return a, nil
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 4 || ValidStation(parts[1]) != nil {
		return Arrival{}, advice
	}
	spool, spoolErr := hex.DecodeString(parts[2])
	seq, seqErr := strconv.ParseInt(parts[3], 10, 64) // databases hold no more
	a.Kind, a.Station, a.Spool, a.Seq = Kind(parts[0]), parts[1], spool, uint64(seq)
	if cmp.Or(spoolErr, seqErr) != nil || len(spool) != SpoolBytes || seq < 0 || !knownKind(a.Kind) {
		return Arrival{}, advice
	}
	return a, nil
}

func knownKind(kind Kind) bool {
	switch kind {
	case KindMeasurement, KindSpectrum, KindDetection, KindHealth, KindGap, KindReply:
		return true
	case KindIQ, KindSite:
	}
	return false
}
