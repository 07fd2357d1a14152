package radio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a KiwiSDR sends: messages in text, and sound frames. Multi-byte fields of a frame's head are little endian but for the
// S-meter; samples are big endian unless the frame says otherwise.

// Flags of a sound frame.
const (
	kiwiOverload = 0x02 // of the converter
	kiwiRetuned  = 0x04 // frequency or mode changed
	kiwiIQ       = 0x08 // two channels, and a time stamp before them
	kiwiRestart  = 0x20
	kiwiLE       = 0x80
)

const (
	kiwiHead      = 10      // of every sound frame
	kiwiStampSize = 10      // of one with IQ, after the head
	kiwiMostBytes = 1 << 20 // of a message; configurations of some are long
	kiwiMostFrame = 1 << 14 // of samples: eight times what any firmware sends
)

// Ends of the S-meter.
const kiwiLeastDBm, kiwiMostDBm = -127, 3.4

var errKiwiFrame = errors.New("not a sound frame of a KiwiSDR")

// soundFrame is a sound frame as parsed.
type soundFrame struct {
	flags  byte
	seq    uint32
	sMeter float64 // dBm
	stamp  kiwiFrame
	iq     []byte // pairs of s16 in the order that the flags say; nil where there is no IQ
}

// parseSound takes a frame apart. The samples stay where they are.
func parseSound(b []byte) (soundFrame, error) {
	if len(b) < kiwiHead || string(b[:3]) != "SND" {
		return soundFrame{}, errKiwiFrame
	}
	f := soundFrame{
		flags:  b[3],
		seq:    binary.LittleEndian.Uint32(b[4:]),
		sMeter: float64(binary.BigEndian.Uint16(b[8:]))/10 - 127,
	}
	if f.flags&kiwiIQ == 0 {
		return f, nil
	}
	if n := len(b) - kiwiHead - kiwiStampSize; n <= 0 || n > kiwiMostFrame || n%4 != 0 {
		return soundFrame{}, errKiwiFrame
	}
	f.stamp = kiwiStamp(b[kiwiHead:])
	f.iq = b[kiwiHead+kiwiStampSize:]
	return f, nil
}

// kiwiMessages takes a message apart into names and values. Free text is percent-encoded.
func kiwiMessages(b []byte, take func(name, value string)) {
	text, is := strings.CutPrefix(string(b), "MSG ")
	if !is {
		return
	}
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		if plain, err := url.QueryUnescape(value); err == nil {
			value = plain
		}
		take(name, value)
	}
}

// kiwiRefusal is the refusal that a message says, if it says one.
func kiwiRefusal(where, name, value string) *Refusal {
	no := func(reason, mend string, after time.Duration) *Refusal { return &Refusal{where, reason, mend, after} }
	switch name {
	case "too_busy":
		return no("too_busy", "all its "+value+" channels are taken", 15*time.Second)
	case "redirect":
		return no("redirect", "it sends listeners to "+value+": name that one in the source if it will do", time.Minute)
	case "badp":
		return kiwiBadPassword(where, value)
	case "ip_limit":
		minutes, _, _ := strings.Cut(value, ",")
		return no("ip_limit", "this address has had its "+minutes+" minutes of today: ask the owner for an exemption (ipl_password), or run the agent on the receiver's own network", 6*time.Hour)
	case "down":
		return no("disabled", "its owner has taken it out of service", 5*time.Minute)
	case "reason_disabled":
		why := map[string]string{"0": "its owner has taken it out of service", "1": "it is being updated", "2": "a backup is being made of it"}
		mend := why[value]
		if mend == "" {
			mend = "it is out of service"
		}
		return no("disabled", mend, 2*time.Minute)
	case "password_timeout":
		return no("password", "it waited for a password in vain: give password=", time.Minute)
	case "exclusive_use":
		return no("busy", "somebody has it for himself", time.Minute)
	case "wb_only":
		return no("mode", "it serves wide bands only", time.Hour)
	case "inactivity_timeout", "camp_disconnect":
		return no("kicked", "it closed the connection: "+name, time.Minute)
	}
	return nil
}

// kiwiBadPassword is what a KiwiSDR says of a log-in; 0 is that it is good.
func kiwiBadPassword(where, code string) *Refusal {
	switch code {
	case "0":
		return nil
	case "1":
		return &Refusal{where, "password", "the password is wrong, or all channels without one are taken: look at password=", time.Minute}
	case "2":
		return &Refusal{where, "starting", "it is still looking for its own network", 15 * time.Second}
	case "3":
		return &Refusal{where, "banned", "this address is not allowed there: ask the owner", time.Hour}
	case "5":
		return &Refusal{where, "duplicate", "it takes one connection of an address only: is there another listener on this network?", time.Minute}
	case "6":
		return &Refusal{where, "starting", "it updates its list of stations", time.Minute}
	}
	return &Refusal{where, "password", fmt.Sprintf("log-in refused with code %q", code), time.Minute}
}

// kiwiStatus reads the page /status, a name=value a line.
func kiwiStatus(page []byte) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if name, value, is := strings.Cut(strings.TrimSpace(line), "="); is {
			facts[name] = value
		}
	}
	return facts
}

// kiwiClosed is the refusal that the status page announces, so that nobody need be asked.
func kiwiClosed(where string, facts map[string]string) *Refusal {
	if facts["offline"] == "yes" || facts["status"] == "offline" {
		return &Refusal{where, "disabled", "its owner has taken it off the air", 5 * time.Minute}
	}
	users, err1 := strconv.Atoi(facts["users"])
	most, err2 := strconv.Atoi(facts["users_max"])
	if err1 == nil && err2 == nil && most > 0 && users >= most {
		return &Refusal{where, "too_busy", fmt.Sprintf("all its %d channels are taken", most), 15 * time.Second}
	}
	return nil
}
