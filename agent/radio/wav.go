package radio

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/fulgidus/heimdall/dsp"
)

// WAV sample encodings.
const (
	wavPCM        = 1
	wavFloat      = 3
	wavExtensible = 0xFFFE
)

// maxAuxi bounds what is read of an auxi chunk; SDR Console's are a few kilobytes.
const maxAuxi = 64 << 10

func isWAV(head []byte) bool {
	if len(head) < 12 || string(head[8:12]) != "WAVE" {
		return false
	}
	id := string(head[:4])
	return id == "RIFF" || id == "RF64" || id == "BW64"
}

// window reads small pieces of a file at rising places without a system call each.
type window struct {
	file io.ReaderAt
	buf  []byte
	at   int64
	n    int
}

func newWindow(file io.ReaderAt) *window {
	return &window{file: file, buf: make([]byte, 64<<10)}
}

// bytes returns n bytes (at most 64 KiB) from an offset, fewer at the end of the file, valid until the next call.
func (w *window) bytes(offset int64, n int) ([]byte, error) {
	if offset < w.at || offset+int64(n) > w.at+int64(w.n) {
		got, err := w.file.ReadAt(w.buf, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		w.at, w.n = offset, got
	}
	b := w.buf[offset-w.at : w.n]
	return b[:min(n, len(b))], nil
}

// chunk is one RIFF chunk as it lies in the file.
type chunk struct {
	id     string
	offset int64 // of its content
	size   int64 // of its content that is in the file
	stated int64
	last   bool // reaches the end of the file
}

// wavParser walks the chunks of one file.
type wavParser struct {
	r      *recording
	file   *window
	end    int64
	data64 int64 // data size of ds64; 0: none
	sawFmt bool
	rateHz float64
	facts  nameFacts
	start  time.Time
	auxiHz float64
	data   chunk
	kiwi   *kiwiParser
}

// parseWAV reads plain, extensible, RF64 and KiwiSDR WAV files.
func (r *recording) parseWAV(info os.FileInfo, over Options) error {
	p := &wavParser{r: r, file: newWindow(r.data), end: info.Size(), facts: factsOfName(r.path)}
	if err := p.walk(); err != nil {
		return err
	}
	if !p.sawFmt {
		return r.fault("fmt chunk", "", "missing: the header is damaged or cut off; record again")
	}
	if p.kiwi == nil && p.data.id == "" {
		return r.fault("data chunk", "", "missing: the file ends inside its header; record again")
	}
	if over.Format != dsp.FormatUnknown {
		if p.kiwi != nil && over.Format != r.format {
			return r.fault("format", over.Format.String(), "a KiwiSDR recording is cs16: leave the format out")
		}
		r.format = over.Format
	}
	r.stateFacts(p.facts)
	if p.kiwi != nil {
		if err := r.setRate(p.rateHz, "in the header"); err != nil {
			return err
		}
		return p.kiwi.finish(p, info)
	}
	return p.finish(over)
}

// walk visits every chunk to the end of the file.
func (p *wavParser) walk() error {
	for at := int64(12); at < p.end; {
		c, err := p.next(at)
		if err != nil {
			return err
		}
		if c.id == "" {
			p.r.note("the last %d bytes are no chunk of the WAV file and were left out", p.end-at)
			return nil
		}
		if err := p.take(c); err != nil {
			return err
		}
		if c.last {
			return nil
		}
		at = c.offset + c.stated + c.stated&1
	}
	return nil
}

// next reads a chunk's head; id is empty when the file ends inside it.
func (p *wavParser) next(at int64) (chunk, error) {
	head, err := p.file.bytes(at, 8)
	if err != nil {
		return chunk{}, fmt.Errorf("read recording %s: %w", p.r.path, err)
	}
	if len(head) < 8 {
		return chunk{}, nil
	}
	c := chunk{id: string(head[:4]), offset: at + 8, stated: int64(binary.LittleEndian.Uint32(head[4:]))}
	left := p.end - c.offset
	if c.id == "data" {
		switch {
		case c.stated == 0xFFFFFFFF && p.data64 > 0:
			c.stated = p.data64
		case c.stated == 0xFFFFFFFF, c.stated == 0 && p.kiwi == nil:
			c.stated = left // written by a pipe that did not know its end
		case left >= 1<<32 && c.stated == left&0xFFFFFFFF:
			c.stated = left // written by a program whose 32 bits overflowed
		}
	}
	c.size = min(c.stated, left)
	c.last = c.stated >= left
	return c, nil
}

func (p *wavParser) take(c chunk) error {
	switch c.id {
	case "fmt ":
		return p.takeFormat(c)
	case "ds64":
		b, err := p.content(c, 16)
		if err != nil || len(b) < 16 {
			return errors.Join(err, p.short(c, 28))
		}
		if n := binary.LittleEndian.Uint64(b[8:]); n <= uint64(p.end) {
			p.data64 = int64(n)
		}
	case "auxi":
		return p.takeAuxi(c)
	case "kiwi":
		if p.kiwi == nil {
			p.kiwi = &kiwiParser{}
		}
		b, err := p.content(c, 10)
		if err != nil {
			return err
		}
		p.kiwi.takeStamp(b)
	case "data":
		return p.takeData(c)
	}
	return nil
}

func (p *wavParser) content(c chunk, most int) ([]byte, error) {
	b, err := p.file.bytes(c.offset, int(min(int64(most), c.size)))
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", p.r.path, err)
	}
	return b, nil
}

func (p *wavParser) short(c chunk, want int) error {
	return p.r.fault(strings.TrimSpace(c.id)+" chunk", fmt.Sprintf("%d bytes", c.size), fmt.Sprintf("want at least %d: the header is damaged or cut off; record again", want))
}

func (p *wavParser) takeFormat(c chunk) error {
	b, err := p.content(c, 40)
	if err != nil {
		return err
	}
	if len(b) < 16 {
		return p.short(c, 16)
	}
	code, bits := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[14:])
	if code == wavExtensible {
		if len(b) < 26 {
			return p.short(c, 40)
		}
		code = binary.LittleEndian.Uint16(b[24:])
	}
	if n := binary.LittleEndian.Uint16(b[2:]); n != 2 {
		return p.r.fault("channels", strconv.Itoa(int(n)), "not I/Q: want 2 channels, left I and right Q")
	}
	switch {
	case code == wavPCM && bits == 8:
		p.r.format = dsp.CU8
	case code == wavPCM && bits == 16:
		p.r.format = dsp.CS16
	case code == wavFloat && bits == 32:
		p.r.format = dsp.CF32
	default:
		return p.r.fault("encoding", fmt.Sprintf("format %d with %d bits", code, bits), "want PCM of 8 or 16 bits or float of 32 bits: save it as one of these")
	}
	p.rateHz = float64(binary.LittleEndian.Uint32(b[4:]))
	p.sawFmt = true
	return nil
}

func (p *wavParser) takeData(c chunk) error {
	if !p.sawFmt {
		return p.r.fault("fmt chunk", "", "missing before the data chunk: the header is damaged; record again")
	}
	if p.kiwi != nil {
		return p.kiwi.takeData(p, c)
	}
	if p.data.id == "" {
		p.data = c
	}
	return nil
}

// finish describes a plain WAV file.
func (p *wavParser) finish(over Options) error {
	r := p.r
	rate := p.rateHz
	if over.RateHz != 0 {
		rate = over.RateHz
	}
	if rate == 0 {
		return r.fault("sample rate", "0 Hz", "in the header is absurd: give the true one with rate=250k (measure: --rate 250k)")
	}
	if err := r.setRate(rate, "in the header"); err != nil {
		return err
	}
	r.maskDC = true
	if p.auxiHz > 0 {
		// 32 bits hold centres up to 4.295 GHz; a name that agrees but for the overflow knows better.
		if named := p.facts.centerHz; named < 1<<32 || uint32(int64(named)) != uint32(int64(p.auxiHz)) {
			r.centerHz = p.auxiHz
		}
	}
	r.whole(p.data.offset, p.data.size)
	if p.data.stated > p.data.size {
		r.note("the header promises %d bytes of samples and the file holds %d: the recording was cut short", p.data.stated, p.data.size)
	}
	if p.start.IsZero() {
		p.start = p.facts.start
	}
	r.stateTime(p.start)
	return nil
}

// takeAuxi reads the chunk that SpectraVue invented (start, stop, centre) or the XML that SDR Console puts there.
func (p *wavParser) takeAuxi(c chunk) error {
	if c.size > maxAuxi {
		p.r.note("an auxi chunk of %d bytes was left out", c.size)
		return nil
	}
	b, err := p.content(c, maxAuxi)
	if err != nil {
		return err
	}
	if x := auxiXML(b); x != nil {
		p.takeAuxiXML(x)
		return nil
	}
	if len(b) < 36 {
		p.r.note("an auxi chunk of %d bytes is too short to say a centre and was left out", len(b))
		return nil
	}
	p.start = systemTime(b)
	p.auxiHz = float64(binary.LittleEndian.Uint32(b[32:]))
	return nil
}

// systemTime reads a Windows SYSTEMTIME; zero when it is none.
func systemTime(b []byte) time.Time {
	var v [8]int
	for i := range v {
		v[i] = int(binary.LittleEndian.Uint16(b[2*i:]))
	}
	t := time.Date(v[0], time.Month(v[1]), v[3], v[4], v[5], v[6], v[7]*1e6, time.UTC)
	if v[0] < 1990 || t.Year() != v[0] || int(t.Month()) != v[1] || t.Day() != v[3] || t.Hour() != v[4] {
		return time.Time{}
	}
	return t
}

// auxiXML returns the text of an XML auxi chunk as UTF-8, nil when it is binary.
func auxiXML(b []byte) []byte {
	wide := bytes.TrimPrefix(b, []byte("\xff\xfe"))
	switch {
	case len(wide) > 1 && wide[0] == '<' && wide[1] == 0:
		units := make([]uint16, len(wide)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(wide[2*i:])
		}
		b = []byte(string(utf16.Decode(units)))
	case len(b) > 0 && b[0] == '<':
	default:
		return nil
	}
	return bytes.TrimRight(b, "\x00")
}

// takeAuxiXML reads the attributes of SDR Console's Definition element.
func (p *wavParser) takeAuxiXML(text []byte) {
	dec := xml.NewDecoder(bytes.NewReader(text))
	dec.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	for {
		token, err := dec.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.r.note("the XML of the auxi chunk is damaged: %v", err)
			}
			return
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range element.Attr {
			switch a.Name.Local {
			case "RadioCenterFreq":
				if hz, err := strconv.ParseFloat(a.Value, 64); err == nil && hz > 0 && hz <= maxHz {
					p.r.centerHz, p.facts.centerHz = hz, hz
				}
			case "UTCSeconds":
				if s, err := strconv.ParseInt(a.Value, 10, 64); err == nil && s > 0 && s < 1<<40 {
					p.start = time.Unix(s, 0).UTC()
				}
			case "CurrentTimeUTC":
				if t, err := time.Parse("02-01-2006 15:04:05", a.Value); err == nil && p.start.IsZero() {
					p.start = t
				}
			}
		}
	}
}
