//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
)

const (
	telegrafTopic = "telegraf/measurement"
	publishWindow = 1000 // messages on their way at once
)

// telegrafConfig gives Telegraf the settings that made it fastest here: batches of 1,000 of at most 5,000 unwritten records
// (more than that Mosquitto's max_inflight_messages of 2,000 does not let it have), and a short flush interval for the last.
const telegrafConfig = `
[agent]
  interval = "1s"
  flush_interval = "200ms"
  metric_batch_size = 1000
  metric_buffer_limit = 200000
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://%s"]
  topics = ["%s"]
  topic_tag = ""
  qos = 1
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = 5000
  data_format = "json"
  json_name_key = ""
  name_override = "measurement"
  json_time_key = "time"
  json_time_format = "2006-01-02T15:04:05.999999999Z07:00"
  json_string_fields = ["station", "receiver", "step", "time_quality"]
[[outputs.postgresql]]
  connection = "%s"
`

func telegrafBinary() string { return filepath.Join(servers.CacheDir(), "bin", "telegraf") }

// startTelegraf starts Telegraf and returns when it has subscribed.
func (w *world) startTelegraf(ctx context.Context, url string) (*child, error) {
	if _, err := os.Stat(telegrafBinary()); err != nil {
		return nil, fmt.Errorf("telegraf, the peer: not installed; run `make bench-peers`: %w", err)
	}
	config := w.path("telegraf.conf")
	text := fmt.Sprintf(telegrafConfig, w.broker.Addr, telegrafTopic, url)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure telegraf: %w", err)
	}
	c, err := start(ctx, "telegraf", w.path("telegraf.log"), telegrafBinary(), "--config", config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = until(ctx, func() bool {
		log, err := os.ReadFile(c.log)
		return err == nil && strings.Contains(string(log), "Connected [tcp:")
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wait for telegraf: %w:\n%s", err, c.tail()), c.stop())
	}
	return c, nil
}

// runPublisher is the role "publish": the same load as JSON, prepared, then published as fast as the broker takes it.
func runPublisher(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("publish", flag.ContinueOnError)
	broker := flags.String("broker", "", "")
	records := flags.Int("records", 0, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	load, err := jsonPayloads(*records)
	if err != nil {
		return err
	}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + *broker).SetClientID("publisher").SetAutoReconnect(false)
	client := mqtt.NewClient(options)
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		return fmt.Errorf("connect to the broker: %w", token.Error())
	}
	defer client.Disconnect(1000)
	in := bufio.NewScanner(os.Stdin)
	fmt.Fprintln(os.Stdout, "ready")
	if !in.Scan() {
		return fmt.Errorf("wait for the word: %w", io.ErrUnexpectedEOF)
	}
	tokens := make(chan mqtt.Token, publishWindow)
	for _, payload := range load {
		if len(tokens) == publishWindow {
			if err := confirmed(ctx, <-tokens); err != nil {
				return err
			}
		}
		tokens <- client.Publish(telegrafTopic, 1, false, payload)
	}
	close(tokens)
	for token := range tokens {
		if err := confirmed(ctx, token); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stdout, "put")
	for in.Scan() { // until the other end closes
	}
	return nil
}

func confirmed(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
