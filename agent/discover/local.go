package discover

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// rtlIDs are the USB product ids of RTL2832U sticks, all of vendor 0bda.
var rtlIDs = []string{"2832", "2838"}

// usbSticks finds RTL-SDR sticks by what the kernel says of the USB bus.
func usbSticks(root fs.FS) []Found {
	const devices = "sys/bus/usb/devices"
	entries, _ := fs.ReadDir(root, devices) // a system without USB has no sticks
	var all []Found
	sticks := 0
	for _, e := range entries {
		about := func(file string) string { return line(root, path.Join(devices, e.Name(), file)) }
		if about("idVendor") != "0bda" || !slices.Contains(rtlIDs, about("idProduct")) {
			continue
		}
		serial := about("serial")
		name := serial
		if serial == "" {
			name = strconv.Itoa(sticks)
		}
		sticks++
		f := Found{Source: "rtlsdr://" + name, What: strings.Join(strings.Fields("RTL-SDR "+about("manufacturer")+" "+about("product")), " ")}
		if holder := driverOf(root, devices, e.Name()); strings.HasPrefix(holder, "dvb_usb") {
			f.Mend = "the kernel's television driver holds it: `sudo modprobe -r " + holder + "`, and put `blacklist " + holder + "` into /etc/modprobe.d/rtl-sdr.conf"
		}
		all = append(all, f)
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

// connectors finds the programs that feed an OpenWebRX on this computer, each with the port on which it gives IQ.
func connectors(root fs.FS) []Found {
	processes, _ := fs.ReadDir(root, "proc")
	var all []Found
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
			all = append(all, Found{Source: "owrx://127.0.0.1:" + port, What: "OpenWebRX's " + program})
		}
		if port := after(args, "-r", "--rtltcp"); port != "" {
			all = append(all, Found{Source: "rtltcp://127.0.0.1:" + port, What: "OpenWebRX's " + program + ", as rtl_tcp"})
		}
	}
	return all
}

// after is the argument that follows one of the names.
func after(args []string, names ...string) string {
	for i, a := range args[:len(args)-1] {
		if slices.Contains(names, a) {
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
