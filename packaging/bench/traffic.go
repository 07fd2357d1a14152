//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/protocol"
)

// amount is what went over some topics.
type amount struct{ messages, bytes, largest int }

func (a amount) plus(b amount) amount {
	return amount{a.messages + b.messages, a.bytes + b.bytes, max(a.largest, b.largest)}
}

// counter listens to all that stations publish and counts payload bytes by the last part of the topic; measurements that
// found an emission also as those.
type counter struct {
	client mqtt.Client

	mu sync.Mutex // guards by
	by map[string]amount
}

const emission = "measurement of an emission"

func (w *world) listen() (*counter, error) {
	c := &counter{by: make(map[string]amount)}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + w.broker.Addr).SetClientID("counter").SetAutoReconnect(false)
	c.client = mqtt.NewClient(options)
	if token := c.client.Connect(); token.Wait() && token.Error() != nil {
		return nil, fmt.Errorf("connect to the broker: %w", token.Error())
	}
	count := func(_ mqtt.Client, m mqtt.Message) {
		kind := m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]
		c.add(kind, len(m.Payload()))
		if kind != string(protocol.KindMeasurement) {
			return
		}
		rec, err := protocol.Decode(m.Payload())
		if body := rec.GetMeasurement(); err == nil && body != nil && body.SnrDb != nil {
			c.add(emission, len(m.Payload()))
		}
	}
	if token := c.client.Subscribe("heimdall/v1/#", 0, count); token.Wait() && token.Error() != nil {
		return nil, fmt.Errorf("subscribe: %w", token.Error())
	}
	return c, nil
}

func (c *counter) add(kind string, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[kind] = c.by[kind].plus(amount{1, bytes, bytes})
}

func (c *counter) stop() { c.client.Disconnect(0) }

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.by)
}

func (c *counter) total(kinds ...string) (sum amount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, a := range c.by {
		for _, k := range kinds {
			if k == kind {
				sum = sum.plus(a)
			}
		}
	}
	return sum
}

const agentConfig = `
station: {id: torino, name: Torino, position: {lat: 45.044, lon: 7.672, height_m: 250}}
mqtt: {url: %q}
receivers: [{id: r0, source: %q, plan: [{name: 2m}]}]
spool: {path: %q}
log: {level: warn}
`

// day is what a station at the default plan sends and writes, carried from the measured span to a day.
type day struct {
	payloadMB, diskGB           float64
	measurement, spectrum       float64 // bytes of one message
	emission                    float64 // bytes of a measurement that found one; NaN when none did
	emissionLargest             int
	detections                  float64 // a minute: the scene decides
	measurementMB, otherKindsMB float64
}

// ordinaryDay watches the agent itself on a scene with an emission a minute: one receiver, one measurement a second, a
// spectrum each 10 s.
func (w *world) ordinaryDay(ctx context.Context, span time.Duration) (d day, err error) {
	err = w.withReader(ctx, w.startCollector, func(*database, *child) error {
		listener, err := w.listen()
		if err != nil {
			return err
		}
		defer listener.stop()
		config := w.path("agent.yaml")
		text := fmt.Sprintf(agentConfig, w.broker.URL, "sim:packaging/bench/scene.yaml?station=torino", w.path("agent"))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return fmt.Errorf("configure the agent: %w", err)
		}
		agent, err := start(ctx, "agent", w.path("agent.log"), filepath.Join(w.programs, "heimdall-agent"), "run", "--config", config)
		if err != nil {
			return err
		}
		d, err = watchDay(ctx, span, listener, agent)
		return errors.Join(err, agent.stop())
	})
	return d, err
}

func watchDay(ctx context.Context, span time.Duration, listener *counter, agent *child) (d day, err error) {
	err = until(ctx, func() bool { return listener.total("spectrum").messages > 0 }) // what a start costs is over
	if err != nil {
		return d, err
	}
	listener.reset()
	began, written := time.Now(), agent.written()
	select {
	case <-ctx.Done():
		return d, ctx.Err()
	case <-time.After(span):
	}
	days := time.Since(began).Hours() / 24
	everything := listener.total("batch", "measurement", "spectrum", "detection", "health", "gap", "site", "state", "status", "info")
	measurements, spectra, detections := listener.total("measurement"), listener.total("spectrum"), listener.total("detection")
	emissions := listener.total(emission)
	d = day{
		payloadMB: float64(everything.bytes) / 1e6 / days, diskGB: float64(agent.written()-written) / 1e9 / days,
		measurement: each(measurements), spectrum: each(spectra), emission: each(emissions), emissionLargest: emissions.largest,
		detections:    float64(detections.messages) / (days * 24 * 60),
		measurementMB: float64(measurements.bytes) / 1e6 / days,
	}
	d.otherKindsMB = d.payloadMB - d.measurementMB
	return d, nil
}

func each(a amount) float64 { return float64(a.bytes) / float64(a.messages) }

// folderBytes is what the files of a folder take.
func folderBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
