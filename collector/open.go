package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/acquisition"
	"github.com/fulgidus/heimdall/collector/api"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/command"
	"github.com/fulgidus/heimdall/collector/ingest"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

func (c *Collector) openData(context.Context) (err error) {
	c.data, err = openDataDir(c.cfg.Data)
	return err
}

func (c *Collector) openStore(ctx context.Context) (err error) {
	c.store, err = store.Open(ctx, string(c.cfg.Store.URL), c.component("store"))
	return err
}

func (c *Collector) openArchive(ctx context.Context) (err error) {
	c.archive, err = archive.Open(ctx, archive.Config{
		Location: c.cfg.Archive.URL, Credentials: c.cfg.Archive.credentials(), Source: captureSource{c.store, c},
		Log: c.component("archive"),
	})
	return err
}

// openPorts takes the ports of the embedded broker and of the API.
func (c *Collector) openPorts(ctx context.Context) (err error) {
	if c.cfg.MQTT.URL == "" {
		if c.broker, err = link.OpenBroker(ctx, c.cfg.MQTT.Embedded.Listen, c.component("broker")); err != nil {
			return err
		}
	}
	var config net.ListenConfig
	if c.http, err = config.Listen(ctx, "tcp", c.cfg.HTTP.Listen); err != nil {
		return fmt.Errorf("http.listen: %s: %w; stop what holds the port, or choose another one (port 0 takes any free port)", c.cfg.HTTP.Listen, err)
	}
	return nil
}

func (c *Collector) openLink(context.Context) (err error) {
	m := c.cfg.MQTT
	cfg, err := brokerConfig(c.cfg, c.BrokerURL())
	if err != nil {
		return err
	}
	if c.trust.authority != nil && strings.HasPrefix(cfg.URL, "mqtts:") {
		cfg.TLS = c.brokerOfOwn(cfg.TLS)
	}
	cfg.SharedGroup, cfg.Log = m.SharedGroup, c.component("link")
	cfg.Handle = func(msg link.Message) { c.ingest.Receive(ingest.Message(msg)) }
	cfg.Connected = func(ctx context.Context, since time.Time) error {
		c.ingest.Republish()
		c.accounts.Wake()
		c.missStations(ctx, since)
		return nil
	}
	if c.client, err = link.NewClient(cfg); err != nil {
		return err
	}
	c.openIngest(cfg.Topics)
	return nil
}

// openIngest makes everything between the broker and the database.
func (c *Collector) openIngest(topics protocol.Topics) {
	c.commands = command.New(topics, c.client, c.component("command"))
	c.acquisitions = acquisition.New(acquisition.Config{
		Store: c.store, Commander: c.commands, Stations: c.store, IQBytes: int64(c.cfg.Limits.CaptureBytes),
		Changed: c.tellAcquisition, Log: c.component("acquisition"),
	})
	observers := []ingest.Observer{c.commands.Observe, c.acquisitions.Observe, c.wakeArchive, c.tellRecords}
	if *c.cfg.MQTT.JSONMirror {
		c.mirror = ingest.NewMirror(topics, c.client, c.component("mirror"))
		observers = append(observers, c.mirror.Observe)
	}
	var flood func(station string)
	if c.broker != nil {
		flood = c.broker.Disconnect // an outside broker's clients are not ours to disconnect
	}
	c.ingest = ingest.New(ingest.Config{
		Topics: topics, Collector: c.cfg.ID, Sink: c.store, Known: c.store, Stations: stationSaver{c}, Suspensions: suspender{c},
		Publisher: c.client, Flood: flood,
		Observers: observers, Log: c.component("ingest"),
		Limits: ingest.Limits{
			StationRecords: c.cfg.Limits.StationRate, StationBytes: float64(c.cfg.Limits.StationBytes), MessageBytes: int(c.cfg.Limits.Message),
			RejectedPerMinute: float64(c.cfg.Limits.RejectedPerMinute), RejectedPerHour: float64(c.cfg.Limits.RejectedPerHour),
		},
	})
}

// brokerConfig is how the collector presents itself to the broker.
func brokerConfig(c Config, url string) (link.Config, error) {
	cfg := link.Config{URL: url, Username: c.MQTT.Username, Password: string(c.MQTT.Password), Topics: protocol.Topics{Prefix: c.MQTT.Prefix}, ID: c.ID}
	if c.MQTT.CA == "" && c.MQTT.Cert == "" {
		return cfg, nil
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.MQTT.CA != "" {
		text, err := os.ReadFile(c.MQTT.CA)
		if err != nil {
			return cfg, fmt.Errorf("mqtt.ca: %w", err)
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(text) {
			return cfg, fmt.Errorf("mqtt.ca: %s holds no certificate in PEM form", c.MQTT.CA)
		}
	}
	if c.MQTT.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.MQTT.Cert, c.MQTT.Key)
		if err != nil {
			return cfg, fmt.Errorf("mqtt.cert, mqtt.key: %w", err)
		}
		cfg.TLS.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Times of the HTTP server. Handlers that stream extend the last one themselves.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	closeTimeout   = 5 * time.Second
	// headerBytes is what the header of a request may hold; more is answered with 431.
	headerBytes = 64 << 10
	// conditionTimeout is how long a part may take to say whether it can work.
	conditionTimeout = 5 * time.Second
)

func (c *Collector) openAPI(context.Context) error {
	c.jobs = c.groupJobs()
	var desk api.Enrolment
	if c.cfg.HTTP.secure() {
		desk = c.trust.desk
	}
	handler, err := api.New(api.Config{
		Enrolment: desk,
		Reader:    c.store, Commander: commander{c.acquisitions, c.store}, Recordings: c.store, Files: c.archive, WebSDRs: c.store, Events: c.events,
		Tokens: c.store, Audit: c.store, Accounts: brokerAccounts{c}, AskTokens: c.cfg.HTTP.Tokens, GoesBy: c.goesBy,
		Ready: c.conditions, Metrics: metrics{c}, Version: c.version, Log: c.component("api"),
	})
	if err != nil {
		return err
	}
	c.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: headerBytes,
		ErrorLog:       slog.NewLogLogger(knocks{c.component("http").Handler()}, slog.LevelWarn),
	}
	c.server.TLSConfig, err = c.httpTLS()
	return err
}
