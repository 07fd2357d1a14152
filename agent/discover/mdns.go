package discover

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// What is asked for by multicast DNS (RFC 6762): KiwiSDRs by the name they give themselves, radiods by their service.
const (
	kiwiName      = "kiwisdr.local."
	radiodService = "_ka9q-ctl._udp.local."
)

// answers are what came back.
type answers struct {
	kiwis []netip.Addr
	// hosts are the names under which radiods send their status.
	hosts map[string]bool
	addrs map[string]netip.Addr
}

// askMDNS asks once, from a port of its own so that answers come to it alone, and takes what comes in time.
func askMDNS(ctx context.Context, to string) answers {
	got := answers{hosts: map[string]bool{}, addrs: map[string]netip.Addr{}}
	var listen net.ListenConfig
	conn, err := listen.ListenPacket(ctx, "udp4", ":0")
	if err != nil {
		return got
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	addr, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		return got
	}
	for _, q := range []dnsmessage.Question{
		{Name: dnsmessage.MustNewName(kiwiName), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		{Name: dnsmessage.MustNewName(radiodService), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET},
	} {
		msg := dnsmessage.Message{Questions: []dnsmessage.Question{q}}
		packet, err := msg.Pack()
		if err != nil {
			continue
		}
		if _, err := conn.WriteTo(packet, addr); err != nil { // no network, or none for multicast
			return got
		}
	}
	conn.SetReadDeadline(time.Now().Add(patience / 2)) //nolint:errcheck // a closed one fails to read
	packet := make([]byte, 9000)
	for {
		n, _, err := conn.ReadFrom(packet)
		if err != nil {
			return got
		}
		got.read(packet[:n])
	}
}

// read takes what is of use from one packet.
func (a *answers) read(packet []byte) {
	var p dnsmessage.Parser
	if _, err := p.Start(packet); err != nil || p.SkipAllQuestions() != nil {
		return
	}
	for _, section := range []func() (dnsmessage.Resource, error){p.Answer, p.Authority, p.Additional} {
		for {
			r, err := section()
			if err != nil {
				break
			}
			a.take(r)
		}
	}
}

func (a *answers) take(r dnsmessage.Resource) {
	name := strings.ToLower(r.Header.Name.String())
	switch body := r.Body.(type) {
	case *dnsmessage.AResource:
		addr := netip.AddrFrom4(body.A)
		if name == kiwiName {
			a.kiwis = append(a.kiwis, addr)
		}
		a.addrs[name] = addr
	case *dnsmessage.SRVResource:
		if strings.HasSuffix(name, "."+radiodService) {
			a.hosts[strings.ToLower(body.Target.String())] = true
		}
	}
}

// radiods are the groups whose name came with an address.
func (a *answers) radiods() []Found {
	var all []Found
	for host := range a.hosts {
		if addr, ok := a.addrs[host]; ok {
			all = append(all, Found{
				Source: "ka9q://" + addr.String() + "/10000?control=on&center=10M", What: "radiod " + strings.TrimSuffix(host, "."),
				Mend: "this makes a channel 10000 at 10 MHz; the number of one that is there, without parameters, is heard as it is",
			})
		}
	}
	return all
}
