package protocol

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// DetectionID names an emission by its first record: {station}-{spool}-{seq}.
func DetectionID(stream Stream, seq uint64) string {
	return fmt.Sprintf("%s-%s-%d", stream.Station, hex.EncodeToString(stream.Spool[:]), seq)
}

// ParseDetectionID reads a detection's id as [DetectionID] writes it. The error is an *Error.
func ParseDetectionID(id string) (stream Stream, seq uint64, err error) {
	malformed := refuse(CodeMalformed, "detection_id", id, "want STATION-SPOOL-NUMBER such as giaveno-9f3c5a1e77b0c214-97")
	parts := strings.Split(id, "-")
	if len(parts) < 3 {
		return Stream{}, 0, malformed
	}
	number, spool := parts[len(parts)-1], parts[len(parts)-2]
	stream.Station = strings.Join(parts[:len(parts)-2], "-")
	if stream.Spool, err = ParseSpool(spool); err != nil {
		return Stream{}, 0, malformed
	}
	seq, err = strconv.ParseUint(number, 10, 64)
	if err != nil || seq == 0 || seq > MaxSeq || ValidStation(stream.Station) != nil || DetectionID(stream, seq) != id {
		return Stream{}, 0, malformed
	}
	return stream, seq, nil
}
