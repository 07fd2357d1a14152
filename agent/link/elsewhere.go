package link

import (
	"math/rand/v2"
	"time"

	"github.com/fulgidus/heimdall/protocol"
)

// Retained is what the station has retained beside its own topics. Without a payload it is taken back.
type Retained struct {
	Topic   string
	Payload []byte
	Done    func() // called when the broker has it; may be nil
}

// longestRepeat bounds how late a description is repeated for who has started anew: all stations hear of it at once.
const longestRepeat = 20 * time.Second

// announceElsewhere publishes what is beside the station's own topics.
func (s *session) announceElsewhere() {
	for _, r := range s.cfg.Elsewhere {
		s.dispatch(dispatch{topic: r.Topic, payload: r.Payload, qos: 1, retained: true, done: r.Done})
	}
}

// started tells whether a message says that the reader of Elsewhere has started, and has it repeated soon.
func (s *session) started(m inbound) bool {
	if s.cfg.Started == "" || m.topic != s.cfg.Started {
		return false
	}
	if string(m.payload) == protocol.Online && s.repeat == nil {
		s.repeat = time.After(rand.N(s.cfg.MaxRepeat))
	}
	return true
}
