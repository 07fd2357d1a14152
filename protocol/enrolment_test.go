package protocol_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/protocol"
)

func sampleCode(host string) protocol.EnrolmentCode {
	c := protocol.EnrolmentCode{Host: host}
	for i := range c.Secret {
		c.Secret[i] = byte(i * 17)
	}
	for i := range c.Authority {
		c.Authority[i] = byte(255 - i)
	}
	return c
}

func TestEnrolmentCode_RoundTrip(t *testing.T) {
	for host, address := range map[string]string{
		"collector.example.org":      "collector.example.org:8090",
		"collector.example.org:8443": "collector.example.org:8443",
		"192.0.2.7":                  "192.0.2.7:8090",
		"192.0.2.7:1":                "192.0.2.7:1",
		"[2001:db8::1]":              "[2001:db8::1]:8090",
		"[2001:db8::1]:443":          "[2001:db8::1]:443",
		"pi":                         "pi:8090",
	} {
		want := sampleCode(host)
		for _, text := range []string{want.Reveal(), " " + strings.ToUpper(want.Reveal()) + "\r\n"} {
			got, err := protocol.ParseEnrolmentCode(text)
			if err != nil || got != want {
				t.Errorf("%s: %v, %v", host, got, err)
			}
		}
		if got := want.Address(); got != address {
			t.Errorf("%s: address %s, want %s", host, got, address)
		}
	}
	for _, c := range []struct{ host, port, want string }{
		{"a.example", "8090", "a.example"}, {"a.example", "443", "a.example:443"}, {"::1", "8090", "[::1]"}, {"::1", "443", "[::1]:443"},
	} {
		if got := protocol.EnrolmentHost(c.host, c.port); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.host, c.port, got, c.want)
		}
	}
}

func TestEnrolmentCode_Refuses(t *testing.T) {
	good := sampleCode("collector.example.org").Reveal()
	secret := strings.Split(good, ".")[4]
	for _, text := range []string{
		"", "hd1", "hd1...", strings.Replace(good, "hd1", "hd2", 1), good[:len(good)-1], good + "a", good + "." + secret,
		strings.Replace(good, secret, secret[1:], 1), strings.Replace(good, secret, secret[:25]+"b", 1), // of the last letter two bits are no part of it
		strings.Replace(good, "collector.example.org", "", 1), strings.Replace(good, "collector.example.org", "a b", 1),
		strings.Replace(good, "collector.example.org", "a:0", 1), strings.Replace(good, "collector.example.org", "a:65536", 1),
		strings.Replace(good, "collector.example.org", "a:080", 1), strings.Replace(good, "collector.example.org", "a/b", 1),
		strings.Replace(good, "collector.example.org", strings.Repeat("a.", 200)+"a", 1),
	} {
		_, err := protocol.ParseEnrolmentCode(text)
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		if strings.Contains(err.Error(), secret[:10]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

// However a code is printed, only Reveal shows its secret.
func TestEnrolmentCode_PrintsWithoutItsSecret(t *testing.T) {
	c := sampleCode("collector.example.org")
	secret := strings.Split(c.Reveal(), ".")[4]
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "code", c)
	text := log.String() + fmt.Sprint(c) + fmt.Sprintf("%v %+v %#v %s", c, &c, c, c)
	if strings.Contains(text, secret) || strings.Contains(text, "17, 34") || !strings.Contains(text, "collector.example.org") {
		t.Error(text)
	}
}

func FuzzParseEnrolmentCode(f *testing.F) {
	f.Add(sampleCode("collector.example.org").Reveal())
	f.Add(sampleCode("[::1]:443").Reveal())
	f.Add("hd1.a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := protocol.ParseEnrolmentCode(text)
		if err != nil {
			return
		}
		again, err := protocol.ParseEnrolmentCode(c.Reveal())
		if err != nil || again != c {
			t.Errorf("%q gives %#v, whose own text gives %#v, %v", text, c, again, err)
		}
		if c.ServerName() == "" {
			t.Errorf("%q names no host", text)
		}
	})
}
