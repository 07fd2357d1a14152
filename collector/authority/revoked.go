package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// lookEvery is how soon a collector knows what another one has revoked.
const lookEvery = 10 * time.Second

// Run keeps what is revoked at hand until the context ends: a handshake cannot wait for a database.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for failed := false; ; {
		err := d.look(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "cannot read which certificates are revoked; those known are refused", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look reads what is revoked, and ends the sessions of those that were not before. An answer that a later question has overtaken
// does not count: it may not know what was revoked meanwhile.
func (d *Desk) look(ctx context.Context) error {
	d.mu.Lock()
	d.asked++
	mine := d.asked
	d.mu.Unlock()
	list, err := d.cfg.Certificates.RevokedCertificates(ctx, d.cfg.Now())
	if err != nil {
		return err
	}
	revoked := make(map[string]string, len(list))
	var fresh []string
	d.mu.Lock()
	if mine < d.heard {
		d.mu.Unlock()
		return nil
	}
	for _, c := range list {
		revoked[c.Serial] = c.Station
		if _, old := d.revoked[c.Serial]; !old && d.known {
			fresh = append(fresh, c.Station)
		}
	}
	d.revoked, d.known, d.heard = revoked, true, mine
	d.mu.Unlock()
	d.tellBrokers(ctx)
	for _, station := range fresh {
		if err := d.cfg.Broker.Cut(ctx, station); err != nil {
			d.cfg.Log.WarnContext(ctx, "cannot end the session of a station whose certificate was revoked", "station", station, "error", err)
		}
	}
	return nil
}

// errNotYet is for the time before the database was asked.
var errNotYet = errors.New("it is not known yet which certificates are revoked")

// Admit tells whose certificate came in a handshake whose chain was verified, and refuses a revoked one.
func (d *Desk) Admit(cert *x509.Certificate) (station string, err error) {
	if station, err = d.cfg.Authority.stationOf(cert); err != nil {
		return "", fmt.Errorf("no station's certificate: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return "", errNotYet
	}
	if _, revoked := d.revoked[serialText(cert)]; revoked {
		return "", fmt.Errorf("the certificate of station %s is revoked", station)
	}
	return station, nil
}
