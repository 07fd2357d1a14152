package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Packet types, MQTT 3.1.1 section 2.2.1. The others are never sent by a client.
const (
	typeConnect     = 1
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
)

// Limits of one packet of a client. mochi makes a node of some 700 bytes for each level of a topic that is subscribed to
// or retained, and counts the levels anew at each of them: 64 KiB of slashes would cost 45 MB and seconds under a lock.
const (
	maxTopicBytes    = 1024
	maxTopicLevels   = 32
	maxPacketFilters = 64
	maxClientIDBytes = 256
	levelMQTT311     = 4
	levelMQTT5       = 5
)

// versionError says that a client speaks another version of MQTT than 3.1.1.
type versionError byte

func (e versionError) Error() string {
	return fmt.Sprintf("protocol level %d is not MQTT 3.1.1 (level %d); set the client to version 3.1.1", byte(e), levelMQTT311)
}

// connectPacket is what the listener itself needs of a CONNECT.
type connectPacket struct {
	clientID, username, password string
}

// checkConnect takes the body of a first packet.
func checkConnect(header byte, body []byte) (connectPacket, error) {
	var c connectPacket
	if header != typeConnect<<4 {
		return c, fmt.Errorf("the first packet has the header %#02x, it must be a CONNECT", header)
	}
	p := fields{rest: body}
	name, level, flags := p.bytes(), p.byte(), p.byte()
	p.uint16() // keep alive
	switch {
	case p.short:
		return c, errShort
	case string(name) != "MQTT" && string(name) != "MQIsdp":
		return c, fmt.Errorf("protocol %q is not MQTT", name)
	case level != levelMQTT311:
		return c, versionError(level)
	}
	const clean, will, qos, retain, password, username = 1 << 1, 1 << 2, 3 << 3, 1 << 5, 1 << 6, 1 << 7
	switch {
	case flags&1 != 0 || flags&qos == qos:
		return c, fmt.Errorf("connect flags %#02x are not allowed", flags)
	case flags&will == 0 && flags&(qos|retain) != 0, flags&username == 0 && flags&password != 0:
		return c, fmt.Errorf("connect flags %#02x contradict each other", flags)
	}
	c.clientID = p.text()
	if len(c.clientID) > maxClientIDBytes || c.clientID == "" && flags&clean == 0 {
		return c, fmt.Errorf("a client id of %d bytes is not accepted", len(c.clientID))
	}
	if flags&will != 0 {
		if err := checkTopic(p.text()); err != nil {
			return c, fmt.Errorf("will: %w", err)
		}
		p.bytes()
	}
	if flags&username != 0 {
		c.username = p.text()
	}
	if flags&password != 0 {
		c.password = string(p.bytes())
	}
	return c, p.end()
}

// checkPacket takes each packet after the CONNECT.
func checkPacket(header byte, body []byte) error {
	kind, flags := header>>4, header&0xf
	p := fields{rest: body}
	switch {
	case kind == typePublish:
		return checkPublish(flags, &p)
	case (kind == typePuback || kind == typePubrec || kind == typePubcomp) && flags == 0, kind == typePubrel && flags == 2:
		p.id()
	case (kind == typeSubscribe || kind == typeUnsubscribe) && flags == 2:
		return checkFilters(kind, &p)
	case (kind == typePingreq || kind == typeDisconnect) && flags == 0:
	default:
		return fmt.Errorf("a packet with the header %#02x is not one that a client sends after CONNECT", header)
	}
	return p.end()
}

func checkPublish(flags byte, p *fields) error {
	qos := flags >> 1 & 3
	if qos == 3 || qos == 0 && flags&8 != 0 {
		return fmt.Errorf("publish flags %#x are not allowed", flags)
	}
	err := checkTopic(p.text())
	if qos > 0 {
		p.id()
	}
	p.rest = nil // the payload
	return errors.Join(p.end(), err)
}

func checkFilters(kind byte, p *fields) error {
	p.id()
	count := 0
	for ; len(p.rest) > 0; count++ {
		filter := p.text()
		if p.short || p.bad {
			break
		}
		if err := checkFilter(filter); err != nil {
			return err
		}
		if kind == typeSubscribe && p.byte() > 2 {
			return errors.New("a subscription asks for a QoS above 2")
		}
	}
	if !p.short && (count == 0 || count > maxPacketFilters) {
		return fmt.Errorf("a packet names %d topic filters, 1 to %d are accepted", count, maxPacketFilters)
	}
	return p.end()
}

// checkTopic refuses what cannot be published to.
func checkTopic(topic string) error {
	switch {
	case topic == "" || strings.ContainsAny(topic, "+#"):
		return errors.New("a message can be published to a topic only, not to nothing or to a filter")
	case topic[0] == '$':
		return errors.New("topics that begin with $ belong to the broker")
	}
	return checkSize(topic)
}

// checkFilter refuses what cannot be subscribed to.
func checkFilter(filter string) error {
	if err := checkSize(filter); err != nil {
		return err
	}
	levels := strings.Split(filter, "/")
	if strings.EqualFold(levels[0], "$share") { // mochi knows it in any case
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(levels) == 3 && levels[2] == "" {
			return errors.New("a shared subscription is written $share/group/filter")
		}
		levels = levels[2:]
	}
	for i, level := range levels {
		if level == "#" && i == len(levels)-1 || level == "+" {
			continue
		}
		if strings.ContainsAny(level, "+#") {
			return errors.New("a wildcard stands for a whole level of a topic, and # for the last")
		}
	}
	return nil
}

func checkSize(topic string) error {
	if topic == "" || len(topic) > maxTopicBytes || strings.Count(topic, "/") >= maxTopicLevels {
		return fmt.Errorf("a topic of %d bytes and %d levels: 1 to %d bytes and at most %d levels are accepted",
			len(topic), strings.Count(topic, "/")+1, maxTopicBytes, maxTopicLevels)
	}
	return nil
}

var (
	errShort = errors.New("the packet ends too early")
	errLong  = errors.New("the packet has bytes after its end")
	errText  = errors.New("a text in the packet is not UTF-8 without NUL")
	errNoID  = errors.New("the packet identifier is 0")
)

// fields reads a packet's body from the front. What is read past the end is zero, and end tells.
type fields struct {
	rest  []byte
	short bool // the body ended too early
	bad   bool // a text was not UTF-8
	noID  bool // a packet identifier was 0
}

func (f *fields) take(n int) []byte {
	if f.short || n > len(f.rest) {
		f.short, f.rest = true, nil
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uint16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) bytes() []byte { return f.take(int(f.uint16())) }

func (f *fields) text() string {
	b := f.bytes()
	if !utf8.Valid(b) || strings.IndexByte(string(b), 0) >= 0 {
		f.bad = true
	}
	return string(b)
}

func (f *fields) id() { f.noID = f.uint16() == 0 || f.noID }

func (f *fields) end() error {
	switch {
	case f.short:
		return errShort
	case f.bad:
		return errText
	case f.noID:
		return errNoID
	case len(f.rest) > 0:
		return errLong
	}
	return nil
}
