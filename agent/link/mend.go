package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// explain takes from an error of the client what it says twice: that the network erred, and which address was dialled. It says
// what to do where that is known.
func (c Config) explain(err error) error {
	mend := c.mend(err)
	if both, ok := err.(interface{ Unwrap() []error }); ok && errors.Is(err, packets.ErrorNetworkError) {
		all := both.Unwrap()
		err = all[len(all)-1]
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = op.Err
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			err = call.Err
		}
	}
	if mend == "" {
		return err
	}
	return &mendable{err, mend}
}

// mendable is an error with what to do about it.
type mendable struct {
	err  error
	mend string
}

func (m *mendable) Error() string { return m.err.Error() + ": " + m.mend }

func (m *mendable) Unwrap() error { return m.err }

// enrolAgain is the mend of a certificate that the broker does not take.
const enrolAgain = "where the station was revoked, ask the network's operator for a code, then `heimdall-agent enroll -`"

// mend is what to do about an error of a connection that did not come about; empty: nothing is known.
func (c Config) mend(err error) string {
	op, _ := errors.AsType[*net.OpError](err)
	_, stranger := errors.AsType[x509.UnknownAuthorityError](err)
	_, misnamed := errors.AsType[x509.HostnameError](err)
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	u, _ := url.Parse(c.URL) // it was dialled
	secure := u != nil && u.Scheme != "mqtt" && u.Scheme != "tcp"
	switch {
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		switch {
		case c.Cert != "":
			return "the broker does not let the station in: " + enrolAgain
		case c.Username != "":
			return "correct mqtt.username and mqtt.password; where the station was revoked, ask the network's operator for an account"
		}
		return "set mqtt.username and mqtt.password to an account of the broker"
	case op != nil && op.Op == "remote error" && strings.Contains(op.Error(), "certificate"):
		return "the broker refuses the station's certificate (mqtt.cert): " + enrolAgain
	case op != nil && op.Op == "dial":
		return "see that the broker runs, and that mqtt.url names it"
	case stranger && c.CA == "":
		return "set mqtt.ca to the certificate of the authority that the broker's own is by"
	case stranger:
		return "the broker's certificate is not by the authority of mqtt.ca: correct mqtt.ca, or mqtt.url"
	case misnamed:
		return "write the broker in mqtt.url by a name that its certificate is for"
	case invalid.Cert != nil && invalid.Reason == x509.Expired:
		return "set this computer's clock, or have the broker's certificate renewed"
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing answers as a broker there: see that it runs and can be reached, or correct mqtt.url"
	case secure && (plain || closedThere(err)):
		return "the port may not speak TLS: write mqtt://, or correct the port in mqtt.url (that of TLS is usually 8883)"
	case closedThere(err):
		return "the port may be that of TLS, or of something else than a broker: write mqtts://, or correct mqtt.url"
	}
	return ""
}
