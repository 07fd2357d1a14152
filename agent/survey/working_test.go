package survey_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/agent/radio"
	"github.com/fulgidus/heimdall/agent/survey"
)

// hung is a Keeper that does not come back before it is let go.
type hung struct{ entered, leave chan struct{} }

func (h hung) Hold(time.Time, time.Duration, float64) {
	select {
	case h.entered <- struct{}{}:
	default:
	}
	<-h.leave
}

// silent is a receiver that gives some blocks and then none.
type silent struct {
	radio.Receiver
	blocks int
	waits  chan struct{}
}

func (r *silent) Read(ctx context.Context, b *radio.Block) error {
	if r.blocks--; r.blocks < 0 {
		close(r.waits)
		<-ctx.Done()
		return ctx.Err()
	}
	return r.Receiver.Read(ctx, b)
}

// A survey that hangs over a block is at work; one whose receiver says nothing is not.
func TestSurvey_Working(t *testing.T) {
	scene := filepath.Join(t.TempDir(), "scene.yaml")
	text := "seed: 1\nnoise: {floor_dbfs_hz: -95}\npath: {model: free_space, reference_dbfs: 20}\nstations: {torino: {position: [45, 7, 250], rate: 240k}}\nemitters:\n" +
		"  - {id: c, position: [45.0135, 7, 250], center: 145.02M, modulation: {kind: tone}, power_dbm: 37, schedule: {start: 1s, every: 4s, duration: 1s}}\n"
	if err := os.WriteFile(scene, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	keeper, waits := hung{make(chan struct{}, 1), make(chan struct{})}, make(chan struct{})
	s := newSurvey(t, survey.Settings{
		Keeper: keeper, Analyzer: survey.Config{FFT: 1024},
		Open: func() (radio.Receiver, error) {
			rx, err := radio.Open(fmt.Sprintf("sim:%s?station=torino&center=145M&pace=fast&start=%s", scene, epoch.Format(time.RFC3339)), radio.Options{})
			return &silent{rx, 200, waits}, err // 10 s
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one value
	go func() { ended <- s.Run(ctx) }()
	await := func(what string, c chan struct{}) {
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatal("no end of waiting for " + what)
		}
	}
	await("a detection", keeper.entered)
	if s.Working() <= 0 {
		t.Error("hanging over a block is no work")
	}
	close(keeper.leave)
	await("the receiver to fall silent", waits)
	if got := s.Working(); got != 0 {
		t.Errorf("waiting for a receiver is work of %s", got)
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := s.Working(); got != 0 {
		t.Errorf("at work for %s after the end", got)
	}
}
