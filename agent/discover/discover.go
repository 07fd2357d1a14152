// Package discover finds the receivers that a station could listen to: on this computer, and on the local network as far as
// its neighbours are known already or answer to a multicast question. It scans no range of addresses.
package discover

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// Found is a receiver that is there.
type Found struct {
	Source string `json:"source"` // as in receivers[].source
	What   string `json:"what"`   // for people
	Mend   string `json:"mend,omitempty"`
}

// System is where Scan looks. The zero value is this computer.
type System struct {
	Root  string   // of the file system; "/" by default
	Hosts []string // whose ports are tried; by default this computer and the neighbours that the kernel knows
	MDNS  string   // where multicast questions go; 224.0.0.251:5353 by default
}

// patience bounds every question: a receiver on the local network answers within it.
const patience = 2 * time.Second

// Scan looks everywhere at once, and gives what it found in the order of its sources.
func Scan(ctx context.Context, sys System) []Found {
	sys.Root, sys.MDNS = cmp.Or(sys.Root, "/"), cmp.Or(sys.MDNS, "224.0.0.251:5353")
	ctx, cancel := context.WithTimeout(ctx, patience+time.Second)
	defer cancel()
	root := os.DirFS(sys.Root)
	if sys.Hosts == nil {
		sys.Hosts = append([]string{"127.0.0.1"}, neighbours(root)...)
	}
	var looking sync.WaitGroup
	var mu sync.Mutex // guards all
	var all []Found
	add := func(found ...Found) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, found...)
	}
	looking.Go(func() { add(usbSticks(root)...) })
	looking.Go(func() { add(connectors(root)...) })
	looking.Go(func() {
		names := askMDNS(ctx, sys.MDNS)
		add(names.radiods()...)
		for _, addr := range names.kiwis {
			add(kiwi(ctx, addr.String())...)
		}
	})
	for _, host := range sys.Hosts {
		looking.Go(func() { add(rtlTCP(ctx, host)...) })
		looking.Go(func() { add(kiwi(ctx, host)...) })
		looking.Go(func() { add(spyServer(ctx, host)...) })
	}
	looking.Wait()
	slices.SortFunc(all, func(a, b Found) int { return cmp.Compare(a.Source, b.Source) })
	return slices.CompactFunc(all, func(a, b Found) bool { return a.Source == b.Source })
}

// isPrivate tells whether an address is of a local network.
func isPrivate(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && (addr.IsPrivate() || addr.IsLinkLocalUnicast())
}

func dial(ctx context.Context, host, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}
