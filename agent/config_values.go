package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fulgidus/heimdall/configs"
)

// Interval is a duration that cannot be 0: written as 0 it would look like a key left out, and quietly mean its default.
type Interval configs.Duration

// UnmarshalText reads a duration above 0.
func (i *Interval) UnmarshalText(text []byte) error {
	d := (*configs.Duration)(i)
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	if *d <= 0 {
		return errors.New("want a duration above 0, or leave it out")
	}
	return nil
}

// String prints the duration.
func (i Interval) String() string { return configs.Duration(i).String() }

// SampleRate is a rate that cannot be 0, for the same reason.
type SampleRate configs.Hertz

// UnmarshalText reads a rate above 0.
func (r *SampleRate) UnmarshalText(text []byte) error {
	h := (*configs.Hertz)(r)
	if err := h.UnmarshalText(text); err != nil {
		return err
	}
	if *h <= 0 {
		return errors.New("want samples per second from 1 to 1G, or leave it out to keep the receiver's own")
	}
	return nil
}

// String prints the rate with its unit.
func (r SampleRate) String() string { return configs.Hertz(r).String() }

// Uncertainty is a duration written with its unit: clocks are off by anything from nanoseconds to hours.
type Uncertainty configs.Duration

// UnmarshalText refuses a plain number.
func (u *Uncertainty) UnmarshalText(text []byte) error {
	if n := len(text); n > 0 && (text[n-1] >= '0' && text[n-1] <= '9' || text[n-1] == '.') {
		return errors.New("want a unit, for instance 5s or 20ms")
	}
	return (*configs.Duration)(u).UnmarshalText(text)
}

// String prints the duration.
func (u Uncertainty) String() string { return configs.Duration(u).String() }

// Keep is how long acknowledged records stay; a spool is no archive.
type Keep configs.Duration

const mostKeep = Keep(30 * day)

// UnmarshalText reads a duration up to mostKeep.
func (k *Keep) UnmarshalText(text []byte) error {
	err := (*configs.Duration)(k).UnmarshalText(text)
	if errors.Is(err, configs.ErrTooLong) || *k < 0 || *k > mostKeep {
		return errors.New("want 0s to 30d")
	}
	return err
}

// String prints the duration.
func (k Keep) String() string { return configs.Duration(k).String() }

const (
	mostMeasurement = time.Hour // of samples in one measurement
	mostSpectrum    = day
	mostTimeout     = time.Hour
)

// examine reads the certificates, which may be renewed while the agent runs but have to be ones when it begins.
func (m MQTTConfig) examine() error {
	if m.CA != "" {
		pem, err := os.ReadFile(m.CA)
		if err != nil {
			return fmt.Errorf("mqtt.ca: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return fmt.Errorf("mqtt.ca: %q: no certificate in it: want PEM", m.CA)
		}
	}
	if m.Cert != "" {
		if _, err := tls.LoadX509KeyPair(m.Cert, m.Key); err != nil {
			return fmt.Errorf("mqtt.cert and mqtt.key: %w", err)
		}
	}
	return nil
}
