package discover

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestUSBSticks(t *testing.T) {
	const bus = "sys/bus/usb/devices/"
	root := fstest.MapFS{
		bus + "usb1/idVendor":   file("1d6b\n"),
		bus + "1-1/idVendor":    file("0bda\n"),
		bus + "1-1/idProduct":   file("2838\n"),
		bus + "1-1/serial":      file("00000101\n"),
		bus + "1-1/product":     file("RTL2838UHIDIR\n"),
		bus + "1-2/idVendor":    file("0bda\n"),
		bus + "1-2/idProduct":   file("2832\n"),
		bus + "1-2:1.0/driver":  {Data: []byte("../../../bus/usb/drivers/dvb_usb_rtl28xxu"), Mode: fs.ModeSymlink},
		bus + "1-3/idVendor":    file("0bda\n"),
		bus + "1-3/idProduct":   file("8153\n"), // a network adapter of the same vendor
		bus + "1-4/idProduct":   file("2838\n"),
		bus + "1-5/idVendor":    file(""),
		bus + "1-6/idVendor":    file("0bda\n"),
		bus + "1-6/idProduct":   file("2838\n"),
		bus + "1-6/serial":      file("00000001\n"), // as they are sold
		bus + "1-7/idVendor":    file("0bda\n"),
		bus + "1-7/idProduct":   file("2838\n"),
		bus + "1-7/serial":      file("00000001\n"),
		bus + "1-8/idVendor":    file("0bda\n"),
		bus + "1-8/idProduct":   file("2838\n"),
		bus + "1-8/serial":      file("my stick\n"),
		bus + "1-1:1.0/ignored": file(""),
	}
	got := usbSticks(root)
	if len(got) != 5 || got[0].Source != "rtlsdr://00000101" || got[0].What != "RTL-SDR RTL2838UHIDIR" || got[0].Mend != "" {
		t.Fatalf("got %+v", got)
	}
	if got[1].Source != "rtlsdr://1" || !strings.Contains(got[1].Mend, "modprobe -r dvb_usb_rtl28xxu") {
		t.Errorf("the second stick, held by the kernel: %+v", got[1])
	}
	for i, stick := range got[2:] {
		if want := "rtlsdr://" + strconv.Itoa(i+2); stick.Source != want {
			t.Errorf("a stick that its serial number does not name: %+v, want %s", stick, want)
		}
	}
}

func TestConnectors(t *testing.T) {
	root := fstest.MapFS{
		"proc/self/cmdline": file("rtl_connector\x00-p\x001\x00"),
		"proc/12/cmdline":   file("/usr/bin/rtl_connector\x00-s\x002048000\x00-p\x0034567\x00-c\x0034568\x00-r\x001234\x00"),
		"proc/13/cmdline":   file(""),
		"proc/14/cmdline":   file("soapy_connector\x00--port\x0040000\x00"),
		"proc/15/cmdline":   file("grep\x00rtl_connector\x00-p\x001\x00"),
		"proc/16/cmdline":   file("sdrplay_connector\x00-p"),
		"proc/17/cmdline":   file("evil_connector\x00-p\x001\n- id: evil\x00"),
	}
	const changes = "this port changes when OpenWebRX is started again"
	want := []Found{
		{Source: "rtltcp://127.0.0.1:1234", What: "OpenWebRX's rtl_connector, as rtl_tcp"},
		{Source: "owrx://127.0.0.1:34567", What: "OpenWebRX's rtl_connector", Mend: changes},
		{Source: "owrx://127.0.0.1:40000", What: "OpenWebRX's soapy_connector", Mend: changes},
	}
	if diff := cmp.Diff(want, connectors(root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNeighbours(t *testing.T) {
	root := fstest.MapFS{"proc/net/arp": file(`IP address       HW type     Flags       HW address            Mask     Device
192.168.1.7      0x1         0x2         b8:27:eb:00:00:01     *        eth0
192.168.1.8      0x1         0x0         00:00:00:00:00:00     *        eth0
8.8.8.8          0x1         0x2         b8:27:eb:00:00:02     *        eth0
nonsense
`)}
	if diff := cmp.Diff([]string{"192.168.1.7"}, neighbours(root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// serve listens where a receiver would.
func serve(t *testing.T, host, port string, answer func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer(conn)
			conn.Close()
		}
	}()
}

// respond is a multicast DNS responder with a KiwiSDR and a radiod.
func respond(t *testing.T, kiwi [4]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			var asked dnsmessage.Message
			if asked.Unpack(packet[:n]) != nil {
				continue
			}
			reply := answerTo(asked.Questions[0].Name.String(), kiwi)
			conn.WriteTo([]byte("no DNS at all"), from)
			conn.WriteTo(reply, from)
		}
	}()
	return conn.LocalAddr().String()
}

func answerTo(name string, kiwi [4]byte) []byte {
	head := func(name string, kind dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET, TTL: 10}
	}
	msg := dnsmessage.Message{Header: dnsmessage.Header{Response: true}}
	if name == kiwiName {
		msg.Answers = []dnsmessage.Resource{{Header: head(kiwiName, dnsmessage.TypeA), Body: &dnsmessage.AResource{A: kiwi}}}
	} else {
		msg.Answers = []dnsmessage.Resource{
			{Header: head(radiodService, dnsmessage.TypePTR), Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("hf." + radiodService)}},
		}
		msg.Additionals = []dnsmessage.Resource{
			{Header: head("hf."+radiodService, dnsmessage.TypeSRV), Body: &dnsmessage.SRVResource{Port: 5006, Target: dnsmessage.MustNewName("HF.local.")}},
			{Header: head("hf.local.", dnsmessage.TypeA), Body: &dnsmessage.AResource{A: [4]byte{239, 1, 2, 3}}},
		}
	}
	packet, err := msg.Pack()
	if err != nil {
		panic(err) // of the test's own making
	}
	return packet
}

func TestScan(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have one loopback address only, and these ports may be in use there")
	}
	// Addresses of this test's own: the ports are fixed.
	serve(t, "127.77.0.1", "1234", func(c net.Conn) { c.Write([]byte("RTL0\x00\x00\x00\x05\x00\x00\x00\x1d")) })
	serve(t, "127.77.0.2", "1234", func(net.Conn) {})
	serve(t, "127.77.0.2", "8073", func(c net.Conn) { c.Write([]byte("\xff\xfe garbage")) })
	serve(t, "127.77.0.2", "5555", func(net.Conn) {})
	kiwi := http.NewServeMux()
	kiwi.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "status=active\noffline=no\nname=Hut\nusers=2\nusers_max=8\nsw_version=KiwiSDR_v1.843\n")
	})
	l, err := net.Listen("tcp", "127.77.0.3:8073")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: kiwi}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l)

	root := t.TempDir()
	dir := filepath.Join(root, "proc", "99")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte("rtl_connector\x00-p\x0034567\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := Scan(t.Context(), System{Root: root, Hosts: []string{"127.77.0.1", "127.77.0.2", "127.77.0.9"}, MDNS: respond(t, [4]byte{127, 77, 0, 3})})
	want := []Found{
		{
			Source: "ka9q://239.1.2.3/10000?control=on&center=10M", What: "radiod hf.local",
			Mend: "this makes a channel 10000 at 10 MHz; the number of one that is there, without parameters, is heard as it is",
		},
		{Source: "kiwi://127.77.0.3:8073", What: "KiwiSDR Hut, 2 of 8 users"},
		{Source: "owrx://127.0.0.1", What: "OpenWebRX's rtl_connector"},
		{Source: "rtltcp://127.77.0.1:1234", What: "rtl_tcp"},
		{Source: "spyserver://127.77.0.2:5555", What: "perhaps a SpyServer: `heimdall-agent probe` will tell"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(answerTo(kiwiName, [4]byte{1, 2, 3, 4}))
	f.Add(answerTo(radiodService, [4]byte{}))
	f.Fuzz(func(t *testing.T, packet []byte) {
		got := answers{hosts: map[string]bool{}, addrs: map[string]netip.Addr{}}
		got.read(packet)
		for _, found := range got.radiods() {
			if !strings.HasPrefix(found.Source, "ka9q://") {
				t.Errorf("found %+v", found)
			}
		}
	})
}
