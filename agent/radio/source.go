package radio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/dsp"
	"github.com/fulgidus/heimdall/protocol"
)

// Options are what a program adds to a source URL. Zero values leave the choice to the source.
type Options struct {
	Format       dsp.Format   // overrides the format of a recording
	RateHz       float64      // overrides the sample rate of a recording
	CenterHz     float64      // overrides the centre of a recording
	BlockSamples int          // longest block; 0: 50 ms, between 1,024 and 65,536 samples
	Wall         Wall         // what live receivers stamp their blocks with; nil: the system's clock
	Hosts        *Hosts       // who refused whom, for all receivers of a station; nil: this receiver stands alone
	Log          *slog.Logger // nil: nothing is logged
}

// blockLength is how many samples a block has at most: what was asked for or, where that is 0, 50 ms.
func blockLength(askedSamples int, rateHz float64) int {
	if askedSamples > 0 {
		return askedSamples
	}
	return min(max(int(rateHz/20), 1024), 65536)
}

// Wall is a clock that tells the time of day and how well it is known. Of quality unset its times have right differences
// only, and so has what is stamped with them.
type Wall func() (now time.Time, quality protocol.TimeQuality, uncertainty time.Duration)

// SystemWall is the system's clock, taken for one that was set by hand.
func SystemWall() (now time.Time, quality protocol.TimeQuality, uncertainty time.Duration) {
	return time.Now(), protocol.TimeQuality_TIME_QUALITY_SYSTEM, time.Second
}

// drivers makes receivers of source URLs, by scheme.
var drivers = map[string]func(source, rest string, opts Options) (Receiver, error){
	"exec":      openExec,
	"file":      openFile,
	"ka9q":      openKa9q,
	"kiwi":      openKiwi,
	"owrx":      openOwrx,
	"rtl_tcp":   openRTLTCP,
	"rtlsdr":    openRTLSDR,
	"rtltcp":    openRTLTCP,
	"sim":       openSim,
	"spyserver": openSpyserver,
	"stdin":     openStdin,
}

// schemes lists what Open knows, for messages.
func schemes() string {
	return strings.Join(slices.Sorted(maps.Keys(drivers)), ": ") + ":"
}

// Open makes the receiver that a source URL names. It does no I/O: Receiver.Open does. The error lists every
// fault of the URL as a Fault.
func Open(source string, opts Options) (Receiver, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Wall == nil {
		opts.Wall = SystemWall
	}
	if opts.Hosts == nil {
		opts.Hosts = NewHosts()
	}
	scheme, rest, found := strings.Cut(source, ":")
	where := fmt.Sprintf("source %q", withoutSecrets(source))
	if !found {
		return nil, &Fault{where, "scheme", "", "write file:PATH for a recording, sim:SCENE.yaml?station=ID for a simulated receiver"}
	}
	if open, known := drivers[scheme]; known {
		return open(source, rest, opts)
	}
	return nil, &Fault{where, "scheme", scheme, "unknown: this version reads " + schemes()}
}

// WithParameter is a source with one more parameter.
func WithParameter(source, name, value string) string {
	sign := "?"
	if strings.Contains(source, "?") {
		sign = "&"
	}
	return source + sign + name + "=" + url.QueryEscape(value)
}

// Recorded tells whether a source is a recording or a simulation: it can be opened and closed without disturbing anybody.
func Recorded(source string) bool {
	scheme, _, _ := strings.Cut(source, ":")
	return scheme == "file" || scheme == "sim"
}

// FileSource is the source URL of a recording's path, whatever characters it has.
func FileSource(path string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(path)
}

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
	if strings.HasSuffix(field, secretSuffix) {
		value = ""
	}
	p.faults = append(p.faults, &Fault{p.where, field, value, mend})
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

// secretSuffix ends the names of the parameters that are never shown.
const secretSuffix = "password"

// secret reads a password, written out or as file:PATH; its name ends in secretSuffix.
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
	path, query, asked := strings.Cut(source, "?")
	if !asked {
		return path
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, _ := strings.Cut(pair, "="); strings.HasSuffix(name, secretSuffix) {
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

// waitUntil blocks until an instant of the wall clock, or until ctx ends. An instant in the past returns at once.
func waitUntil(ctx context.Context, closed <-chan struct{}, wall Wall, until time.Time) error {
	for {
		now, _, _ := wall()
		d := until.Sub(now)
		if d <= 0 {
			return ctx.Err()
		}
		if err := wait(ctx, closed, min(d, time.Second)); err != nil { // look again: the clock may be set meanwhile
			return err
		}
	}
}

// wait blocks for a time, or until ctx ends.
func wait(ctx context.Context, closed <-chan struct{}, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

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
