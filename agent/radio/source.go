package radio

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

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
		return nil, &Fault{where, "scheme", "", "missing: write kiwi://HOST, rtlsdr://0, file:PATH for a recording, or another of " + schemes()}
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
