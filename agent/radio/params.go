package radio

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
)

// params reads the parameters of a source URL and gathers every fault.
type params struct {
	shown  string // the source, secrets removed
	where  string
	path   string
	values map[string]string
	known  []string
	faults []error
}

// newParams splits PATH?name=value&…; "+" stays "+", because times carry it.
func newParams(source, rest string) *params {
	p := &params{shown: withoutSecrets(source), values: map[string]string{}}
	p.where = fmt.Sprintf("source %q", p.shown)
	path, query, _ := strings.Cut(rest, "?")
	p.path = p.unescape("path", path)
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := p.values[name]; twice {
			p.fault(name, value, "given twice: keep one")
		}
		p.values[name] = p.unescape(name, value)
	}
	return p
}

func (p *params) unescape(field, s string) string {
	plain, err := url.PathUnescape(s)
	if err != nil {
		p.fault(field, s, "a percent sign must be written %25")
		return s
	}
	return plain
}

func (p *params) fault(field, value, mend string) {
	if secretName(field) {
		value = ""
	}
	p.faults = append(p.faults, &Fault{p.where, field, withoutLogin(value), mend})
}

// take returns a parameter's text, and whether it was given.
func (p *params) take(name string) (string, bool) {
	p.known = append(p.known, name)
	v, ok := p.values[name]
	return v, ok
}

func (p *params) oneOf(name, fallback string, choices ...string) string {
	v, ok := p.take(name)
	if !ok {
		return fallback
	}
	if slices.Contains(choices, v) {
		return v
	}
	p.fault(name, v, "want "+strings.Join(choices, " or "))
	return fallback
}

// hertz reads a frequency or a rate between least and most; 0 when not given.
func (p *params) hertz(name string, least, most float64) float64 {
	v, ok := p.take(name)
	if !ok {
		return 0
	}
	hz, err := parseHertz(v)
	if err != nil || hz < least || hz > most {
		p.fault(name, v, fmt.Sprintf("want a number of Hz from %s to %s, such as 250k or 145.5M", formatHertz(least), formatHertz(most)))
		return 0
	}
	return hz
}

func (p *params) duration(name string) time.Duration {
	v, ok := p.take(name)
	if !ok {
		return 0
	}
	var d configs.Duration
	if err := d.UnmarshalText([]byte(v)); err != nil || d <= 0 {
		p.fault(name, v, "want a time span above 0, such as 30s or 250ms")
		return 0
	}
	return time.Duration(d)
}

// mostBuffer is as much as a reader may fall behind: it is kept in memory.
const mostBuffer = time.Minute

func (p *params) buffer() time.Duration {
	d := p.duration("buffer")
	if d > mostBuffer {
		p.fault("buffer", p.values["buffer"], "want at most 1m: it is kept in memory")
	}
	return d
}

func (p *params) instant(name string) time.Time {
	v, ok := p.take(name)
	if !ok {
		return time.Time{}
	}
	return p.parseInstant(name, v)
}

func (p *params) parseInstant(name, v string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		p.fault(name, v, "want a time such as 2026-11-24T02:00:00Z")
		return time.Time{}
	}
	return t.UTC()
}

func (p *params) format(name string) dsp.Format {
	v, ok := p.take(name)
	if !ok {
		return dsp.FormatUnknown
	}
	f, err := dsp.ParseFormat(v)
	if err != nil {
		p.fault(name, v, "want cu8, cs8, cs16 or cf32")
	}
	return f
}

// finish reports parameters that nobody asked for, and all faults.
func (p *params) finish() error {
	slices.Sort(p.known)
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !slices.Contains(p.known, name) {
			p.fault(name, p.values[name], "unknown parameter: this source takes "+strings.Join(p.known, ", "))
		}
	}
	return errors.Join(p.faults...)
}

// hostPort is the address in a source such as kiwi://host:8073, and takes the port as read where none is given.
func (p *params) hostPort(defaultPort int) string {
	address, slashes := strings.CutPrefix(p.path, "//")
	address = strings.TrimSuffix(address, "/")
	if !slashes || address == "" || strings.ContainsAny(address, "/@ ") {
		p.fault("host", p.path, "write //HOST:PORT after the colon, nothing else")
		return ""
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), strconv.Itoa(defaultPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			p.fault("host", address, "write //HOST:PORT, with an IPv6 address in brackets")
			return ""
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		p.fault("port", port, "want a number from 1 to 65535")
	}
	if host == "" {
		p.fault("host", address, "missing: write //HOST:PORT")
	}
	return net.JoinHostPort(host, port)
}

// secretName says whether a parameter's value is never shown: passwords, however they are misspelt.
func secretName(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "pas") || strings.Contains(name, "pw") || strings.Contains(name, "word")
}

// login is the USER:PASSWORD@ of an address.
var login = regexp.MustCompile(`//[^/?&\s]*@`)

// withoutLogin hides user and password in an address, which some write there though no source takes them from it.
func withoutLogin(s string) string { return login.ReplaceAllString(s, "//***@") }

// secret reads a password, written out or as file:PATH; secretName knows its name.
func (p *params) secret(name string) configs.Secret {
	v, ok := p.take(name)
	if !ok {
		return ""
	}
	var s configs.Secret
	if err := s.UnmarshalText([]byte(v)); err != nil {
		p.fault(name, "", err.Error())
	}
	return s
}

// withoutSecrets is a source as it may be shown.
func withoutSecrets(source string) string {
	path, query, asked := strings.Cut(withoutLogin(source), "?")
	if !asked {
		return path
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, _ := strings.Cut(pair, "="); secretName(name) {
			pairs[i] = name + "=***"
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

// localPath turns what stands after "file:" or "sim:" into a path of this machine: file:x, file:/x and
// file:///x are the usual spellings.
func (p *params) localPath() string {
	path := p.path
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") {
			p.fault("path", path, "write file:PATH or file:///ABSOLUTE/PATH")
		}
		path = rest
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	if path == "" {
		p.fault("path", "", "missing: name a file after the colon")
	}
	return filepath.FromSlash(path)
}

// parseHertz reads 77500, 12.5k, 145.5M.
func parseHertz(s string) (float64, error) {
	var hz configs.Hertz
	err := hz.UnmarshalText([]byte(s))
	return float64(hz), err
}

// formatHertz writes 250 kHz, 145.5 MHz.
func formatHertz(hz float64) string { return configs.Hertz(hz).String() }

// number reads one between least and most.
func (p *params) number(name string, least, most, fallback float64) float64 {
	v, ok := p.take(name)
	if !ok {
		return fallback
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= least && n <= most) {
		p.fault(name, v, fmt.Sprintf("want a number from %g to %g", least, most))
		return fallback
	}
	return n
}

// required reports a parameter that is missing. One that was given, and is wrong, has been reported already.
func (p *params) required(name string, missing bool, mend string) {
	if _, given := p.values[name]; missing && !given {
		p.fault(name, "", "missing: "+mend)
	}
}
