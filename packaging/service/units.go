package service

import (
	"embed"
	"strings"
)

// units are the unit files. Packages ship these very files.
//
//go:embed units
var units embed.FS

// DropIn is a change of the agent's unit for receivers that need more than the network.
type DropIn string

// The drop-ins there are.
const (
	USB   DropIn = "usb.conf"
	Sound DropIn = "sound.conf"
)

// group is whose devices a drop-in opens.
func (d DropIn) group() string {
	if d == Sound {
		return "audio"
	}
	return "plugdev"
}

func unitText(name string) (string, error) {
	text, err := units.ReadFile("units/" + name)
	return string(text), err
}

// unitFor is a program's unit, starting it where it is and with the configuration that was named.
func unitFor(program, executable, config string) (string, error) {
	text, err := unitText(program + ".service")
	if err != nil {
		return "", err
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "ExecStart=") {
			lines[i] = "ExecStart=" + word(executable) + " run --config " + word(config)
		}
	}
	return strings.Join(lines, "\n"), nil
}

// word writes one word of a command line for systemd.
func word(text string) string {
	text = strings.NewReplacer("%", "%%", "$", "$$").Replace(text)
	if !strings.ContainsAny(text, " \t\"'\\;") {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
