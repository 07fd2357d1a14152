package archive_test

import (
	"context"
	"crypto/sha512"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/protocol"
)

// station is a source that holds captures in memory.
type station struct {
	mu       sync.Mutex // guards all below
	captures []archive.Capture
	chunks   map[string][]byte // by station/capture/index
	finished map[string]*protocol.Recording
	failed   map[string]string
	fault    func(call string) error // before the effect of a call; nil: none
	changed  chan struct{}           // capacity 16: more changes than any test makes
}

func newSource() *station {
	return &station{chunks: map[string][]byte{}, finished: map[string]*protocol.Recording{}, failed: map[string]string{}, changed: make(chan struct{}, 16)}
}

func key(parts ...any) string { return strings.TrimSuffix(fmt.Sprintln(parts...), "\n") }

func (s *station) broken(call string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(call)
}

func (s *station) CompleteCaptures(context.Context) ([]archive.Capture, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken("list"); err != nil {
		return nil, err
	}
	var open []archive.Capture
	for _, c := range s.captures {
		id := key(c.Station, c.Reply.GetCapture().GetId())
		if s.finished[id] == nil && s.failed[id] == "" {
			open = append(open, c)
		}
	}
	return open, nil
}

func (s *station) Chunk(_ context.Context, name, capture string, index uint32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken("chunk"); err != nil {
		return nil, err
	}
	data, ok := s.chunks[key(name, capture, index)]
	if !ok {
		return nil, fmt.Errorf("chunk %d: %w", index, fs.ErrNotExist)
	}
	return data, nil
}

func (s *station) FinishRecording(_ context.Context, r *protocol.Recording) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken("finish"); err != nil {
		return err
	}
	s.finished[key(r.Station, r.ID)] = r
	for i := range s.chunks {
		if strings.HasPrefix(i, key(r.Station, r.ID, "")) {
			delete(s.chunks, i)
		}
	}
	s.changed <- struct{}{}
	return nil
}

func (s *station) FailRecording(_ context.Context, c archive.Capture, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken("fail"); err != nil {
		return err
	}
	s.failed[key(c.Station, c.Reply.GetCapture().GetId())] = reason
	s.changed <- struct{}{}
	return nil
}

// noise is reproducible data.
func noise(seed uint64, length int) []byte {
	data := make([]byte, length)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(data) // never fails
	return data
}

// add puts a capture with its chunks into the source.
func (s *station) add(name, capture string, data []byte) *protocol.CaptureManifest {
	sum := sha512.Sum512(data)
	m := &protocol.CaptureManifest{
		Id: &capture, Start: proto.Int64(start.UnixNano()), AskedStart: proto.Int64(start.UnixNano() - 40), CenterHz: proto.Float64(145.5e6),
		SampleRateHz: proto.Float64(10_000), Format: proto.String("cu8"), Bytes: proto.Uint64(uint64(len(data))), Samples: proto.Uint64(uint64(len(data) / 2)),
		Sha512: sum[:], TimeQuality: protocol.TimeQuality_TIME_QUALITY_NTP.Enum(), TimeUncertaintyS: proto.Float64(0.004),
		Receiver: proto.String("vhf"), Recorder: proto.String("heimdall-agent/1.0.0"), Hardware: proto.String("RTL2838"),
	}
	count := uint32(0)
	for chunk := range slices.Chunk(data, chunkBytes) {
		s.chunks[key(name, capture, count)] = chunk
		count++
	}
	m.Chunks = &count
	s.captures = append(s.captures, archive.Capture{
		Station: name, Reply: &protocol.Reply{Acquisition: proto.String("acquisition-1"), State: protocol.Reply_STATE_DONE.Enum(), Capture: m},
	})
	return m
}
