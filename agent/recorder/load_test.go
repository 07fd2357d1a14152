package recorder_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulgidus/heimdall/agent/recorder"
	"github.com/fulgidus/heimdall/protocol"
)

// A receiver so fast that no computer follows it: its first capture is tried, one beside it is refused at once with the time from
// when it could be, and one without a start waits for that time.
func TestCapture_MoreThanTheComputerCanDo(t *testing.T) {
	const fast = 1e11
	s := newStation(t, func(s *station) { s.info.Tuning.SampleRateHz = fast })
	b := block(func(float64) complex128 { return 0 }, 0, 5000)
	b.Tuning.SampleRateHz = fast
	s.ring.Append(b)

	accepted := make(chan *protocol.Reply, 2)
	s.sink.seen = func(r *protocol.Record) {
		if reply := r.GetReply(); reply.GetState() == protocol.Reply_STATE_ACCEPTED {
			accepted <- reply
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(recorder.ErrCancelled)
	narrow := func(start *time.Time) *protocol.Capture {
		o := order(epoch, 10)
		o.Start, o.BandwidthHz = nil, proto.Float64(12.5e3)
		if start != nil {
			o.Start = proto.Int64(start.UnixNano())
		}
		return o
	}
	begin := func(id string, o *protocol.Capture) *protocol.Reply {
		running.Go(func() {
			if err := s.Capture(ctx, command(id, o)); err != nil {
				t.Error(err)
			}
		})
		return <-accepted
	}
	start := epoch.Add(2 * time.Second)
	end := start.Add(10 * time.Second)
	begin("first", narrow(&start))

	beside := start.Add(5 * time.Second)
	last := s.capture(t, narrow(&beside)).last()
	if last.GetState() != protocol.Reply_STATE_REFUSED || last.GetReasonCode() != recorder.ReasonBusy || !strings.Contains(last.GetMessage(), "1 captures are under way") {
		t.Errorf("beside another: ended as %v, want busy", last)
	}
	if at := time.Unix(0, last.GetEarliestStart()); at.Sub(end).Abs() > 20*time.Millisecond {
		t.Errorf("earliest start %v, want the end of the other, %v", at.UTC(), end)
	}
	if at := time.Unix(0, begin("waits", narrow(nil)).GetEarliestStart()); at.Sub(end) < -20*time.Millisecond {
		t.Errorf("without a start it begins at %v, want not before %v", at.UTC(), end)
	}
	cmd := command("expires", narrow(nil))
	cmd.Expires = proto.Int64(end.UnixNano())
	if err := s.Capture(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	if last := s.sink.result(t, "expires").last(); last.GetReasonCode() != recorder.ReasonBusy {
		t.Errorf("where it would begin after its expiry, it ended as %v, want busy", last)
	}
}
