package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"
)

const (
	// lookEvery is how often the certificate's age is looked at: clocks step, and computers sleep.
	lookEvery = 10 * time.Minute
	// unsetEvery is the same while the clock is not set, or the certificate has ended.
	unsetEvery = 5 * time.Second
	// Pauses after a failure; they double.
	firstPause = 30 * time.Second
	mostPause  = 6 * time.Hour
	// mostPauseEnded bounds them once the certificate has ended, for nothing is delivered until there is another.
	mostPauseEnded = 10 * time.Minute
	// jitter spreads the stations of a network over a part of the certificate's life.
	jitter = 0.05
)

// Renewer keeps a station's certificate good.
type Renewer struct {
	State string // the state directory
	Now   Now
	// Renewed is called when there is another certificate.
	Renewed func()
	Log     *slog.Logger

	// Times of a test; zero: those above.
	look, first time.Duration

	// Of Run alone: the part of jitter, chosen once, and the pause after the last failure.
	offset float64
	pause  time.Duration
}

// Load reads the station's certificate with its key.
func Load(path string) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(text, text)
}

// Managed tells whether a state directory holds an identity that renews itself.
func Managed(state string) bool {
	files := FilesIn(state)
	return exists(files.Station) && exists(files.Renew)
}

// Run renews the certificate when it is due, until the context ends. Without an identity it does nothing.
func (r *Renewer) Run(ctx context.Context) error {
	r.offset = rand.Float64() * jitter
	for {
		timer := time.NewTimer(r.step(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// step renews the certificate if it is due, and says when to look again.
func (r *Renewer) step(ctx context.Context) time.Duration {
	files := FilesIn(r.State)
	if !exists(files.Renew) {
		return r.orTest(r.look, lookEvery)
	}
	now, set := r.Now()
	if !set {
		return r.orTest(r.look, unsetEvery)
	}
	present, err := Load(files.Station)
	if err == nil && now.Before(due(present.Leaf, r.offset)) {
		r.pause = 0
		return min(r.orTest(r.look, lookEvery), max(due(present.Leaf, r.offset).Sub(now), time.Second))
	}
	if err == nil {
		err = r.renew(ctx, files, present)
	}
	if err == nil {
		r.pause = 0
		return r.orTest(r.look, lookEvery)
	}
	if ctx.Err() != nil {
		return 0
	}
	most := mostPause
	if present.Leaf != nil && now.After(present.Leaf.NotAfter) && !refused(err) {
		most = mostPauseEnded
	}
	first := r.pause == 0
	r.pause = min(max(2*r.pause, r.orTest(r.first, firstPause)), most)
	r.say(ctx, err, present.Leaf, first)
	return r.pause/2 + rand.N(r.pause/2+1)
}

func (r *Renewer) orTest(test, usual time.Duration) time.Duration {
	if test > 0 {
		return test
	}
	return usual
}

// say logs a failure: the first of a row, and those that are long apart.
func (r *Renewer) say(ctx context.Context, err error, leaf *x509.Certificate, first bool) {
	if !first && r.pause < time.Hour {
		return
	}
	attributes := []any{"error", err, "again_in", r.pause.Round(time.Second)}
	if leaf != nil {
		attributes = append(attributes, "ends", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if refused(err) {
		r.Log.ErrorContext(ctx, "the station's certificate is not renewed: `heimdall-agent enroll` with a new code gives another", attributes...)
		return
	}
	r.Log.WarnContext(ctx, "the station's certificate could not be renewed yet", attributes...)
}

func refused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// due is two thirds of a certificate's life, and a little of it later.
func due(leaf *x509.Certificate, offset float64) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(life*2/3 + time.Duration(float64(life)*offset))
}

// renew replaces the certificate.
func (r *Renewer) renew(ctx context.Context, files Files, present tls.Certificate) error {
	granted, err := renew(ctx, files, present, r.Now)
	if err != nil {
		return err
	}
	if _, err := granted.Save(r.State); err != nil {
		return err
	}
	r.Log.InfoContext(ctx, "the station's certificate was renewed", "ends", granted.Expires)
	r.Renewed()
	return nil
}
