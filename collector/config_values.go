package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/configs"
)

// Age is a length of time as [configs.Duration] reads it, or "forever", which is 0.
type Age time.Duration

// UnmarshalText reads an age.
func (a *Age) UnmarshalText(text []byte) error {
	if string(text) == "forever" {
		*a = 0
		return nil
	}
	var d configs.Duration
	if err := d.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w, or forever", err)
	}
	if d <= 0 {
		return fmt.Errorf("%q keeps nothing; write a time above 0, or forever", text)
	}
	*a = Age(d)
	return nil
}

// String prints the age as it is written.
func (a Age) String() string {
	switch {
	case a == 0:
		return "forever"
	case a%(365*aDay) == 0:
		return fmt.Sprintf("%dy", a/(365*aDay))
	case a%aDay == 0:
		return fmt.Sprintf("%dd", a/aDay)
	}
	return configs.Duration(a).String()
}

// Room bounds recordings: a part of the disk that a folder of them is on, bytes of them, or nothing.
type Room struct {
	Part  float64 // of the disk in use, of 1
	Bytes configs.Bytes
}

// UnmarshalText reads 80%, 500GiB or none.
func (r *Room) UnmarshalText(text []byte) error {
	*r = Room{}
	if string(text) == "none" {
		return nil
	}
	if percent, ok := strings.CutSuffix(string(text), "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return fmt.Errorf("%q: want a part of the disk from 1%% to 100%%, bytes such as 500GiB, or none", text)
		}
		r.Part = v / 100
		return nil
	}
	if err := r.Bytes.UnmarshalText(text); err != nil || r.Bytes <= 0 {
		return fmt.Errorf("%q: want a part of the disk such as 80%%, bytes such as 500GiB, or none", text)
	}
	return nil
}

// String prints it as it is written.
func (r Room) String() string {
	switch {
	case r.Part > 0:
		return strconv.FormatFloat(100*r.Part, 'g', 4, 64) + "%"
	case r.Bytes > 0:
		return r.Bytes.String()
	}
	return "none"
}
