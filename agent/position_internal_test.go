package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/agent/clock"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// lockedText is what several goroutines write to.
type lockedText struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The exact place is in site records only: nothing retained, logged, counted or told by the agent has a digit of it beyond the cell,
// nor its height or how well it is known.
func TestPosition_OnlySiteHasTheExactOne(t *testing.T) {
	planted := []string{"45.0741", "7.68713", "283.251", "4.37591"} // more digits than others have by chance
	for _, publish := range []string{"10km", "hidden"} {
		broker := servers.Mosquitto(t)
		said := make(chan mqtt.Message, 10000) // far more than come
		client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + strings.TrimPrefix(broker.URL, "mqtt://")).SetClientID("spy"))
		if token := client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
		client.Subscribe("#", 1, func(_ mqtt.Client, m mqtt.Message) { said <- m }).Wait()

		here := newSite(t, "mqtt: {url: \""+broker.URL+"\", format: json, homeassistant: {enabled: true}}\nmetrics: {listen: \"127.0.0.1:0\"}")
		text, err := os.ReadFile(here.config)
		if err != nil {
			t.Fatal(err)
		}
		exact := "position: {lat: 45.07412, lon: 7.68713, height_m: 283.2518, uncertainty_m: 4.37591, publish: " + publish + "}"
		write(t, here.config, strings.Replace(string(text), "position: {lat: 45, lon: 7, publish: exact}", exact, 1))
		var log lockedText
		a, err := openAgent(t.Context(), here.load(t), "test", clock.New(clock.Config{}), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1) // one value
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- a.Run(ctx) }()
		here.hears(t)
		resp, err := http.Get("http://" + a.metrics.listener.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		metrics, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		status, err := json.Marshal(a.status())
		if err != nil {
			t.Fatal(err)
		}
		topics := map[string]bool{}
		eventually(t, "the site, info, state and the device were published", func() error {
			for {
				select {
				case m := <-said:
					topics[m.Topic()] = true
					if strings.HasSuffix(m.Topic(), "/site") {
						continue
					}
					holdsNone(t, m.Topic(), m.Payload(), planted)
				default:
					for _, topic := range []string{"info", "state", "site"} {
						if !topics["heimdall/v1/torino/"+topic] {
							return io.ErrNoProgress
						}
					}
					return nil
				}
			}
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		client.Disconnect(0)
		holdsNone(t, "the log", []byte(log.String()), planted)
		holdsNone(t, "the metrics", metrics, planted)
		holdsNone(t, "status", status, planted)
		if info := a.info(); (info.Position == nil) != (publish == "hidden") || info.Position != nil && info.Position.HeightM != 0 {
			t.Errorf("%s: %+v", publish, info.Position)
		}
	}
}

func holdsNone(t *testing.T, where string, text []byte, planted []string) {
	t.Helper()
	for _, digits := range planted {
		if bytes.Contains(text, []byte(digits)) {
			t.Errorf("%s tells %s of the exact place: %.500s", where, digits, text)
		}
	}
}

// Whoever is in a cell publishes the same place, wherever he stands in it, and the place itself is in its cell.
func TestPosition_OneCell(t *testing.T) {
	for _, at := range [][2]float64{{45.07, 7.687}, {-33.9, 151.2}, {0.01, 0.01}, {69.6, 18.9}, {-54.8, -68.3}, {89.97, 10}, {12, 179.99}} {
		first := publishedPosition(&PositionConfig{Lat: at[0], Lon: at[1]})
		if again := publishedPosition(&PositionConfig{Lat: at[0], Lon: at[1]}); *again != *first {
			t.Errorf("%v: %+v, and then %+v", at, first, again)
		}
		if of := publishedPosition(&PositionConfig{Lat: first.LatitudeDeg, Lon: first.LongitudeDeg}); *of != *first {
			t.Errorf("%v: published at %+v, which publishes %+v", at, first, of)
		}
	}
}
