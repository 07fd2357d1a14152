package radio

import (
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// owrxHello is what a web client says first. Until it is answered nothing else is understood.
const owrxHello = "SERVER DE CLIENT client=heimdall type=receiver"

// owrxWelcome begins the answer.
const owrxWelcome = "CLIENT DE SERVER "

// owrxState is where a device of OpenWebRX stands, as far as it has been said.
type owrxState struct {
	device, profile string
	centerHz        float64
	rateHz          float64
}

// complete tells whether samples can be understood with it.
func (s owrxState) complete() bool { return s.centerHz > 0 && s.rateHz > 0 }

// owrxMessage is what of a message to web clients counts here.
type owrxMessage struct {
	Type   string          `json:"type"`
	Value  json.RawMessage `json:"value"`
	Reason string          `json:"reason"`
}

// owrxConfig is part of a message config, which tells what has changed. Null is what is no longer set.
type owrxConfig struct {
	Center  *float64 `json:"center_freq"`
	Rate    *float64 `json:"samp_rate"`
	Device  *string  `json:"sdr_id"`
	Profile *string  `json:"profile_id"`
}

// hear follows a text message. refusal is why OpenWebRX does not want this client; empty where it does.
func (s owrxState) hear(text []byte) (now owrxState, refusal string) {
	var m owrxMessage
	if json.Unmarshal(text, &m) != nil {
		return s, ""
	}
	switch m.Type {
	case "backoff":
		return s, "says: " + shorten(m.Reason)
	case "sdr_error":
		var why string
		_ = json.Unmarshal(m.Value, &why)
		return s, "has no device: " + shorten(why)
	case "config":
		var c owrxConfig
		if json.Unmarshal(m.Value, &c) != nil {
			return s, ""
		}
		return s.with(c), ""
	}
	return s, ""
}

// with is the state after a change. What makes no sense changes nothing.
func (s owrxState) with(c owrxConfig) owrxState {
	if c.Center != nil && *c.Center > 0 && *c.Center <= maxHz {
		s.centerHz = *c.Center
	}
	if c.Rate != nil && *c.Rate >= minRateHz && *c.Rate <= maxRateHz {
		s.rateHz = *c.Rate
	}
	if c.Device != nil {
		s.device = shorten(*c.Device)
	}
	if c.Profile != nil {
		s.profile = shorten(*c.Profile)
	}
	return s
}

// shorten keeps what others say to a line.
func shorten(s string) string {
	const most = 200
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// owrxPorts finds the programs that feed an OpenWebRX on this computer in the list of processes: its ports for IQ by their
// command lines. The port is another one each time that OpenWebRX starts.
func owrxPorts(root fs.FS) map[int]string {
	found := map[int]string{}
	processes, _ := fs.ReadDir(root, "proc") // a system without it has no list
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		text, err := fs.ReadFile(root, path.Join("proc", p.Name(), "cmdline"))
		if err != nil { // it has ended
			continue
		}
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		args[0] = path.Base(args[0])
		if !strings.HasSuffix(args[0], "_connector") {
			continue
		}
		i := slices.IndexFunc(args[:len(args)-1], func(a string) bool { return a == "-p" || a == "--port" })
		if i < 0 {
			continue
		}
		if port, err := strconv.Atoi(args[i+1]); err == nil && port > 0 && port < 1<<16 {
			found[port] = strings.Join(args, " ")
		}
	}
	return found
}

// owrxStatus is part of the page status.json.
type owrxStatus struct {
	Receiver struct {
		Name     string `json:"name"`
		Location string `json:"location"`
	} `json:"receiver"`
	Version string `json:"version"`
	Clients int    `json:"max_clients"`
	Devices []struct {
		Name     string `json:"name"`
		Type     string `json:"type"`
		Profiles []struct {
			Name   string  `json:"name"`
			Center float64 `json:"center_freq"`
			Rate   float64 `json:"sample_rate"`
		} `json:"profiles"`
	} `json:"sdrs"`
}

// owrxFacts are what status.json says, for operators. What cannot be read says nothing.
func owrxFacts(text []byte) []Fact {
	var s owrxStatus
	if json.Unmarshal(text, &s) != nil {
		return nil
	}
	facts := []Fact{
		{"server", shorten("OpenWebRX " + s.Version + ", " + s.Receiver.Name)},
		{"place", shorten(s.Receiver.Location)},
		{"users", strconv.Itoa(s.Clients) + " at most"},
	}
	for _, d := range s.Devices[:min(len(s.Devices), 16)] {
		var profiles []string
		for _, p := range d.Profiles[:min(len(d.Profiles), 16)] {
			profiles = append(profiles, p.Name+" "+formatHertz(p.Center)+" at "+formatHertz(p.Rate))
		}
		facts = append(facts, Fact{"device", shorten(d.Name + " (" + d.Type + "): " + strings.Join(profiles, ", "))})
	}
	return facts
}
