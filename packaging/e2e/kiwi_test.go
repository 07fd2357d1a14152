package e2e_test

import (
	"encoding/binary"
	"math"
	"os"
	"testing"
	"time"
)

// kiwiRecording is a KiwiSDR recording read by the test itself, so that the program's reader is held against another.
type kiwiRecording struct {
	data []byte  // s16le pairs, all frames joined
	t0   float64 // GPS seconds of week of sample 0, by the fitted line
	rate float64 // Hz
}

// gpsWeek is the start, in UTC, of the GPS week that holds the recordings of 2017-11-27: GPS time was 18 s ahead of UTC.
var gpsWeek = time.Date(2017, 11, 26, 0, 0, 0, 0, time.UTC).Add(-18 * time.Second)

// readKiwi walks the chunks and fits a line through the stamps; the first frame's stamp is stale in these files.
func readKiwi(t *testing.T, path string) kiwiRecording {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r kiwiRecording
	var index, stamp []float64
	for at := 12; at+8 <= len(text); {
		name, size := string(text[at:at+4]), int(binary.LittleEndian.Uint32(text[at+4:]))
		body := text[at+8 : min(at+8+size, len(text))]
		switch name {
		case "kiwi":
			index = append(index, float64(len(r.data)/4))
			stamp = append(stamp, float64(binary.LittleEndian.Uint32(body[2:]))+float64(binary.LittleEndian.Uint32(body[6:]))/1e9)
		case "data":
			r.data = append(r.data, body...)
		}
		at += 8 + size + size%2
	}
	index, stamp = index[1:], stamp[1:]
	var mx, my float64
	for i := range index {
		mx += index[i] / float64(len(index))
		my += (stamp[i] - stamp[0]) / float64(len(index))
	}
	var sxy, sxx float64
	for i := range index {
		sxy += (index[i] - mx) * (stamp[i] - stamp[0] - my)
		sxx += (index[i] - mx) * (index[i] - mx)
	}
	slope := sxy / sxx
	r.rate = 1 / slope
	r.t0 = stamp[0] + my - slope*mx
	return r
}

// at is the recorded UTC of a sample.
func (r kiwiRecording) at(sample float64) time.Time {
	s := r.t0 + sample/r.rate
	whole := math.Floor(s)
	return gpsWeek.Add(time.Duration(whole)*time.Second + time.Duration(math.Round((s-whole)*1e9)))
}
