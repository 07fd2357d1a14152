package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"path/filepath"
	"slices"

	"github.com/fulgidus/heimdall/configs/wholefile"
)

// RevocationListName is the list of revoked certificates in the authority's folder, for brokers that others run.
const RevocationListName = "crl.pem"

// RevocationList is the list of revoked certificates, by their serial numbers, in the form that brokers read. It holds until the
// authority itself ends: a broker whose list is old lets in whom it let in before, and not nobody.
func (a *Authority) RevocationList(serials []string) ([]byte, error) {
	now := a.now()
	list := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-skew), NextUpdate: a.cert.NotAfter}
	for _, serial := range serials {
		number, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return nil, fmt.Errorf("list revoked certificates: %.40q is no serial number", serial)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: number, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("list revoked certificates: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// tellBrokers writes the list of revoked certificates when it has changed, or was not written by this process yet. It is tried again
// with each look, and told the first time that it cannot be.
func (d *Desk) tellBrokers(ctx context.Context) {
	d.writing.Lock()
	defer d.writing.Unlock()
	err := d.writeList()
	if err != nil && !d.unwritten {
		d.cfg.Log.WarnContext(ctx, "cannot write the list of revoked certificates for brokers", "error", err)
	}
	d.unwritten = err != nil
}

// writeList is called with writing held.
func (d *Desk) writeList() error {
	d.mu.Lock()
	revoked := d.revoked
	d.mu.Unlock()
	serials := slices.Sorted(maps.Keys(revoked))
	if d.written != nil && slices.Equal(serials, d.written) {
		return nil
	}
	text, err := d.cfg.Authority.RevocationList(serials)
	if err != nil {
		return err
	}
	if err := wholefile.Write(filepath.Join(d.cfg.Authority.dir, RevocationListName), text, 0o644, nil); err != nil {
		return err
	}
	d.written = append([]string{}, serials...)
	return nil
}
