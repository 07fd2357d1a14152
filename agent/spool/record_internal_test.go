package spool

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecord_RoundTrip(t *testing.T) {
	key := place{3, 77}.key()
	for _, want := range []record{
		{kind: "measurement", time: -5, payload: []byte("payload")},
		{kind: "iq", time: 1 << 60, ref: &segmentRef{file: 7, offset: 1 << 33, length: 32768, sum: 0xdeadbeef}},
	} {
		value := want.encode(key)
		got, err := decodeRecord(key, value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{}, segmentRef{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := statedTime(value); got != want.time {
			t.Errorf("stated time %d, want %d", got, want.time)
		}
		if _, err := decodeRecord(place{3, 78}.key(), value); !errors.Is(err, errCorrupt) {
			t.Errorf("under another key: %v", err)
		}
	}
}

func TestRecordTime_ReadsOrFallsBack(t *testing.T) {
	now := time.Unix(1, 2)
	for name, payload := range map[string][]byte{
		"nothing": nil, "text": []byte("not protobuf"), "cut short": {0x21, 1, 2}, "cut tag": {0xff}, "cut field": {0x0a, 9, 1},
	} {
		if got := recordTime(payload, now); got != now.UnixNano() {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := recordTime([]byte{0x0a, 1, 'x', 0x21, 1, 0, 0, 0, 0, 0, 0, 0}, now); got != 1 {
		t.Errorf("time %d, want 1", got)
	}
}

// What is decoded is what was encoded, whatever the bytes; nothing panics.
func FuzzDecodeRecord(f *testing.F) {
	key := place{1, 2}.key()
	f.Add(key, record{kind: "reply", time: 1, payload: []byte("x")}.encode(key))
	f.Add(key, record{kind: "iq", ref: &segmentRef{file: 1}}.encode(key))
	f.Add(key, []byte{1, 1, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(key, []byte{})
	f.Add(key, []byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(key, []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		weigh(value)
		statedTime(value)
		recordTime(value, time.Time{})
		check := func(value []byte) {
			r, err := decodeRecord(key, value)
			if err != nil {
				if !errors.Is(err, errCorrupt) {
					t.Fatalf("not errCorrupt: %v", err)
				}
				return
			}
			again, err := decodeRecord(key, r.encode(key))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, again, cmp.AllowUnexported(record{}, segmentRef{})); diff != "" {
				t.Fatal(diff)
			}
		}
		check(value)
		// The same with a right checksum, so that what is behind it is reached.
		sum := checksum(key, value)
		check(append(value[:len(value):len(value)], byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)))
	})
}

func TestPlace_Order(t *testing.T) {
	last := place{1, 1<<64 - 1}
	if got := last.after(); got != (place{2, 0}) {
		t.Errorf("after the last number of an epoch: %v", got)
	}
	if _, ok := placeOf([]byte("short")); ok {
		t.Error("a short key is a place")
	}
	if a, b := (place{1, 2}), (place{1, 3}); earlier(a, b) != a || earlier(b, a) != a || later(a, b) != b || later(b, a) != b {
		t.Error("earlier and later")
	}
}
