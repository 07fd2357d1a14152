package oracle

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/fulgidus/heimdall/protocol"
)

// Log is what the processes of one state directory testified, one after another.
type Log struct {
	Records   []Record
	Commits   []Committed
	Processes int
}

// Record is a record that was given.
type Record struct {
	Line    int // where it was given
	Process int // which of the processes, from 1
	Kind    protocol.Kind
	Payload []byte // as spooled: without its identity

	Taken int // line that tells the number; 0: unknown whether it entered the spool
	Spool [protocol.SpoolBytes]byte
	Seq   uint64
	Put   bool // it was on disk then
}

// Committed says that the numbers of an identity up to Seq were on disk, or declared.
type Committed struct {
	Line    int
	Process int
	Spool   [protocol.SpoolBytes]byte
	Seq     uint64
}

// ReadFile reads a log; one that was never written is empty.
func ReadFile(path string) (*Log, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Log{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the oracle: %w", err)
	}
	defer f.Close()
	log, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("read the oracle %s: %w", path, err)
	}
	return log, nil
}

// Read reads a log. Lines that a kill cut short are passed over; a whole line that makes no sense is an error.
func Read(from io.Reader) (*Log, error) {
	log := &Log{}
	given := map[string]int{} // of the process: number → index of Records
	lines := bufio.NewReader(from)
	for line := 1; ; line++ {
		text, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return log, nil
		}
		if err != nil {
			return nil, err
		}
		words := strings.Fields(text)
		if len(words) == 0 || words[len(words)-1] != "." {
			continue
		}
		if words[0] == "start" {
			log.Processes++
			clear(given)
			continue
		}
		if err := log.add(line, words[:len(words)-1], given); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func (log *Log) add(line int, words []string, given map[string]int) error {
	switch {
	case words[0] == "give" && len(words) == 4:
		payload, err := base64.StdEncoding.DecodeString(words[3])
		if err != nil {
			return err
		}
		given[words[1]] = len(log.Records)
		log.Records = append(log.Records, Record{Line: line, Process: log.Processes, Kind: protocol.Kind(words[2]), Payload: payload})
	case words[0] == "took" && len(words) == 5:
		i, ok := given[words[1]]
		if !ok {
			return fmt.Errorf("record %s was never given", words[1])
		}
		r := &log.Records[i]
		r.Taken, r.Put = line, words[4] == "put"
		return parseNumber(words[2], words[3], &r.Spool, &r.Seq)
	case words[0] == "commit" && len(words) == 3:
		c := Committed{Line: line, Process: log.Processes}
		if err := parseNumber(words[1], words[2], &c.Spool, &c.Seq); err != nil {
			return err
		}
		log.Commits = append(log.Commits, c)
	default:
		return fmt.Errorf("unknown: %.40q", strings.Join(words, " "))
	}
	return nil
}

func parseNumber(identity, number string, spool *[protocol.SpoolBytes]byte, seq *uint64) (err error) {
	b, err := hex.DecodeString(identity)
	if err != nil || len(b) != len(spool) {
		return fmt.Errorf("identity %q: %w", identity, errors.Join(err, errors.New("want 8 bytes")))
	}
	copy(spool[:], b)
	*seq, err = strconv.ParseUint(number, 10, 64)
	return err
}
