package link

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// decodeByMochi does with a packet what mochi does with one that is handed on.
func decodeByMochi(header byte, body []byte) error {
	pk := packets.Packet{ProtocolVersion: levelMQTT311}
	if err := pk.FixedHeader.Decode(header); err != nil {
		return err
	}
	pk.FixedHeader.Remaining = len(body)
	var err error
	code := packets.CodeSuccess
	switch header >> 4 {
	case typeConnect:
		err, code = pk.ConnectDecode(body), pk.ConnectValidate()
	case typePublish:
		if err = pk.PublishDecode(body); err == nil {
			code = pk.PublishValidate(0)
		}
	case typePuback:
		err = pk.PubackDecode(body)
	case typePubrec:
		err = pk.PubrecDecode(body)
	case typePubrel:
		err = pk.PubrelDecode(body)
	case typePubcomp:
		err = pk.PubcompDecode(body)
	case typeSubscribe:
		if err = pk.SubscribeDecode(body); err == nil {
			code = pk.SubscribeValidate()
		}
	case typeUnsubscribe:
		if err = pk.UnsubscribeDecode(body); err == nil {
			code = pk.UnsubscribeValidate()
		}
	case typeDisconnect:
		err = pk.DisconnectDecode(body)
	}
	if err == nil && code != packets.CodeSuccess {
		err = code
	}
	return err
}

// FuzzCheckPacket holds our check of packets against the decoders that it protects: what it lets pass they must accept.
func FuzzCheckPacket(f *testing.F) {
	for _, seed := range []struct {
		header byte
		body   string
	}{
		{0x10, "\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"},
		{0x10, "\x00\x04MQTT\x04\xee\x00\x3c\x00\x01x\x00\x01w\x00\x01p\x00\x01u\x00\x01p"},
		{0x10, "\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x"},
		{0x30, "\x00\x01ax"},
		{0x3b, "\x00\x03a/b\x00\x01payload"},
		{0x40, "\x00\x01"},
		{0x62, "\x00\x01"},
		{0x82, "\x00\x01\x00\x03a/#\x01\x00\x0a$share/g/+\x02"},
		{0xa2, "\x00\x01\x00\x01a"},
		{0xc0, ""},
		{0xe0, ""},
	} {
		f.Add(seed.header, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, header byte, body []byte) {
		kept := bytes.Clone(body)
		hello, err := checkConnect(header, body)
		if header>>4 != typeConnect {
			if err == nil {
				t.Fatalf("header %#x passed for a CONNECT", header)
			}
			err = checkPacket(header, body)
		}
		if !bytes.Equal(body, kept) {
			t.Fatal("the check changed the packet")
		}
		if err != nil {
			return
		}
		if len(hello.clientID) > maxClientIDBytes {
			t.Errorf("a client id of %d bytes", len(hello.clientID))
		}
		err = decodeByMochi(header, body)
		// These two mochi answers itself.
		if errors.Is(err, packets.ErrProtocolViolationWillFlagNoPayload) || errors.Is(err, packets.ErrProtocolViolationFlagNoPassword) {
			return
		}
		if err != nil {
			t.Errorf("%#x % x passes, but mochi says: %v", header, body, err)
		}
	})
}
