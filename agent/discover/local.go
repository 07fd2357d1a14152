package discover

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rtlIDs are the USB product ids of RTL2832U sticks, all of vendor 0bda.
var rtlIDs = []string{"2832", "2838"}

// rtlSerial is a serial number that an rtlsdr: source can name.
var rtlSerial = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)

// usbSticks finds RTL-SDR sticks by what the kernel says of the USB bus. One whose serial number names it alone goes by that,
// the others by their order: many are sold with the same one.
func usbSticks(root fs.FS) []Found {
	const devices = "sys/bus/usb/devices"
	entries, _ := fs.ReadDir(root, devices) // a system without USB has no sticks
	var all []Found
	sticks := map[string]int{} // by serial number
	for _, e := range entries {
		about := func(file string) string { return line(root, path.Join(devices, e.Name(), file)) }
		if about("idVendor") != "0bda" || !slices.Contains(rtlIDs, about("idProduct")) {
			continue
		}
		serial := about("serial")
		sticks[serial]++
		f := Found{Source: "rtlsdr://" + serial, What: strings.Join(strings.Fields("RTL-SDR "+about("manufacturer")+" "+about("product")), " ")}
		if holder := driverOf(root, devices, e.Name()); strings.HasPrefix(holder, "dvb_usb") {
			f.Mend = "the kernel's television driver holds it: `sudo modprobe -r " + holder + "`, and put `blacklist " + holder + "` into /etc/modprobe.d/rtl-sdr.conf"
		}
		all = append(all, f)
	}
	for i := range all {
		if serial := strings.TrimPrefix(all[i].Source, "rtlsdr://"); sticks[serial] > 1 || !rtlSerial.MatchString(serial) {
			all[i].Source = "rtlsdr://" + strconv.Itoa(i)
		}
	}
	return all
}

// driverOf is the kernel module that has taken the first interface of a USB device.
func driverOf(root fs.FS, devices, device string) string {
	target, err := fs.ReadLink(root, path.Join(devices, device+":1.0", "driver"))
	if err != nil {
		return ""
	}
	return path.Base(target)
}

// line is the first line of a small file; empty where it cannot be read.
func line(root fs.FS, name string) string {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first)
}

// connectors finds the programs that feed an OpenWebRX on this computer. The port on which one gives IQ is another one each
// time that OpenWebRX starts: it is named where there are several, else the source finds it.
func connectors(root fs.FS) []Found {
	processes, _ := fs.ReadDir(root, "proc") // a system without it has no list
	var direct, all []Found
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		text, err := fs.ReadFile(root, path.Join("proc", p.Name(), "cmdline"))
		if err != nil { // it has ended, or is somebody else's
			continue
		}
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		program := path.Base(args[0])
		if !strings.HasSuffix(program, "_connector") {
			continue
		}
		if port := after(args, "-p", "--port"); port != "" {
			direct = append(direct, Found{
				Source: "owrx://127.0.0.1:" + port, What: "OpenWebRX's " + program, Mend: "this port changes when OpenWebRX is started again",
			})
		}
		if port := after(args, "-r", "--rtltcp"); port != "" {
			all = append(all, Found{Source: "rtltcp://127.0.0.1:" + port, What: "OpenWebRX's " + program + ", as rtl_tcp"})
		}
	}
	if len(direct) == 1 {
		direct[0].Source, direct[0].Mend = "owrx://127.0.0.1", ""
	}
	return append(all, direct...)
}

// after is the port that follows one of the names.
func after(args []string, names ...string) string {
	for i, a := range args[:len(args)-1] {
		if _, err := strconv.ParseUint(args[i+1], 10, 16); slices.Contains(names, a) && err == nil {
			return args[i+1]
		}
	}
	return ""
}

// neighbours are the addresses of the local network that the kernel has spoken to lately.
func neighbours(root fs.FS) []string {
	const complete = "0x2"
	text, err := fs.ReadFile(root, "proc/net/arp")
	if err != nil {
		return nil
	}
	var all []string
	for i, row := range strings.Split(string(text), "\n") {
		if f := strings.Fields(row); i > 0 && len(f) >= 4 && f[2] == complete && isPrivate(f[0]) {
			all = append(all, f[0])
		}
	}
	return all[:min(len(all), mostNeighbours)]
}

// mostNeighbours bounds how many connections a scan tries at once.
const mostNeighbours = 64
