package radio

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// remark is what a program said of samples that are missing. The zero value says nothing.
type remark struct {
	samples uint64
	bytes   uint64
	time    time.Duration
	unsized bool // some are missing, and how many was not said
}

// chatter understands what programs say on their standard error: rtl_sdr, rx_sdr and what is below it, hackrf_transfer, airspy_rx,
// arecord, and others that use the same words.
type chatter struct {
	// mu guards the fields below.
	mu       sync.Mutex
	line     []byte // that is not complete yet
	telling  string // the last one that sounds like a reason to end
	last     string
	overruns uint64 // as hackrf_transfer counts them
	heard    remark // since it was asked
}

const (
	// longestLine is as much of a line as is looked at.
	longestLine = 1024
	// longestLoss bounds what is believed of a loss.
	longestLoss = time.Hour
)

var (
	// arecord: overrun!!! (at least 12.345 ms long)
	saysTime = regexp.MustCompile(`overrun!!! \(at least ([0-9]+(?:\.[0-9]+)?) ms long\)`)
	// hackrf_transfer -B, each second, counted from the start: …, 3 overruns, longest 16384 bytes
	saysBytes = regexp.MustCompile(`\b([0-9]+) overruns, longest ([0-9]+) bytes`)
	// lost 512 samples, 512 samples dropped
	saysSamples = regexp.MustCompile(`(?i)\b(?:lost|dropped) ([0-9]+) samples|\b([0-9]+) samples (?:were )?(?:lost|dropped)`)
	// [WARNING] … overflow; rx_sdr and UHD write O for each, without a line of its own
	saysLoss = regexp.MustCompile(`(?i)^O+$|\boverruns?\b|\boverflow|\bsamples? (?:lost|dropped)|\b(?:lost|dropped) (?:samples|packets|buffers|frames)\b`)
	// what is worth telling an operator when the program has ended
	saysWhy = regexp.MustCompile(`(?i)error|fail|could ?n.t|cannot|can.t|unable|not |no such|no .*found|invalid|unsupported|denied|busy|lost|usage`)
)

// hear takes a piece of what the program says.
func (c *chatter) hear(piece []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range piece {
		switch {
		case b == '\n' || b == '\r':
			c.understand(string(c.line))
			c.line = c.line[:0]
		case len(c.line) < longestLine:
			c.line = append(c.line, b)
		}
	}
	if n := len(c.line); n > 0 && piece[len(piece)-1] == 'O' && strings.Trim(string(c.line), "O") == "" {
		c.heard.unsized = true
		c.line = c.line[:min(n, longestLine-1)]
	}
}

// understand takes a line.
func (c *chatter) understand(line string) {
	line = strings.ToValidUTF8(strings.TrimSpace(line), "")
	if line == "" {
		return
	}
	c.last = line
	if m := saysTime.FindStringSubmatch(line); m != nil {
		ms, _ := strconv.ParseFloat(m[1], 64)
		c.heard.time += time.Duration(min(ms*1e6, float64(longestLoss)))
		return
	}
	if m := saysBytes.FindStringSubmatch(line); m != nil {
		c.count(parseCount(m[1]), parseCount(m[2]))
		return
	}
	if m := saysSamples.FindStringSubmatch(line); m != nil {
		c.heard.samples += parseCount(m[1] + m[2])
		return
	}
	if saysLoss.MatchString(line) {
		c.heard.unsized = true
	}
	if saysWhy.MatchString(line) {
		c.telling = line
	}
}

// count follows a count of overruns, and the longest until now. Of a single new one that is no shorter than the ones before the
// size is known.
func (c *chatter) count(overruns, longestBytes uint64) {
	switch {
	case overruns == 1 && c.overruns == 0:
		c.heard.bytes += longestBytes
	case overruns > c.overruns:
		c.heard.unsized = true
	}
	c.overruns = overruns
}

// parseCount reads a number of samples or bytes. One that is beyond belief counts as that much.
func parseCount(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return math.MaxUint32
	}
	return min(n, math.MaxUint32)
}

// take is what was said of losses since it was asked.
func (c *chatter) take() remark {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := c.heard
	c.heard = remark{}
	return heard
}

// why is the line that says best why the program has ended, without passwords of addresses; empty when it said nothing.
func (c *chatter) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.line) > 0 {
		c.understand(string(c.line))
		c.line = c.line[:0]
	}
	if c.telling != "" {
		return withoutLogin(c.telling)
	}
	return withoutLogin(c.last)
}
