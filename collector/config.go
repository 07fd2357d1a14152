package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/accounts"
	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/retention"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/packaging/service"
	"github.com/fulgidus/heimdall/protocol"
)

// Config is the collector's configuration file. Every key is shown, with its default, in configs/collector.yaml.
type Config struct {
	ID        string          `yaml:"id"`
	MQTT      MQTTConfig      `yaml:"mqtt"`
	Store     StoreConfig     `yaml:"store"`
	Archive   ArchiveConfig   `yaml:"archive"`
	HTTP      HTTPConfig      `yaml:"http"`
	Retention RetentionConfig `yaml:"retention"`
	Limits    LimitsConfig    `yaml:"limits"`
	Log       LogConfig       `yaml:"log"`
	Data      string          `yaml:"data"`
}

// MQTTConfig is the broker: an outside one by URL, or the embedded one.
type MQTTConfig struct {
	URL         string         `yaml:"url"`
	Username    string         `yaml:"username"`
	Password    configs.Secret `yaml:"password"`
	CA          string         `yaml:"ca"`
	Cert        string         `yaml:"cert"`
	Key         string         `yaml:"key"`
	Prefix      string         `yaml:"prefix"`
	Embedded    EmbeddedConfig `yaml:"embedded"`
	JSONMirror  *bool          `yaml:"json_mirror"`
	SharedGroup string         `yaml:"shared_group"`
	PublicURL   string         `yaml:"public_url"` // how stations reach the broker; empty: by url, or the embedded one
	// Accounts is where the accounts of the broker are kept; empty: none, but with an embedded broker that other computers reach.
	Accounts       string `yaml:"accounts"`
	AccountsFolder string `yaml:"accounts_folder"`

	HomeAssistant HomeAssistantConfig `yaml:"homeassistant"`
}

// HomeAssistantConfig is where stations may describe themselves to Home Assistant.
type HomeAssistantConfig struct {
	Prefix string `yaml:"prefix"`
}

// rules are those of the broker's accounts.
func (c MQTTConfig) rules() accounts.Rules {
	return accounts.Rules{Topics: protocol.Topics{Prefix: c.Prefix}, HomeAssistant: protocol.HomeAssistant{Prefix: c.HomeAssistant.Prefix}}
}

// Where the accounts of the broker are kept.
const (
	accountsNone     = "none"     // everybody may do everything
	accountsEmbedded = "embedded" // in the embedded broker
	accountsDynsec   = "dynsec"   // in Mosquitto's dynamic-security plug-in
	accountsFiles    = "files"    // in files that a broker reads
)

// accountsKept is where accounts are kept once nothing is left open.
func (c MQTTConfig) accountsKept() string {
	if c.Accounts != "" {
		return c.Accounts
	}
	if host, _, err := net.SplitHostPort(c.Embedded.Listen); c.URL == "" && (err != nil || !loopback(host)) {
		return accountsEmbedded
	}
	return accountsNone
}

// EmbeddedConfig is the broker inside the collector.
type EmbeddedConfig struct {
	Listen string `yaml:"listen"`
	TLS    bool   `yaml:"tls"` // always beyond loopback
}

// StoreConfig is the database: postgres://… or sqlite:PATH.
type StoreConfig struct {
	URL configs.Secret `yaml:"url"`
}

// ArchiveConfig is the object store: s3://bucket?endpoint=… or file:PATH.
type ArchiveConfig struct {
	URL       string         `yaml:"url"`
	AccessKey string         `yaml:"access_key"`
	SecretKey configs.Secret `yaml:"secret_key"`
}

func (c ArchiveConfig) credentials() archive.Credentials {
	return archive.Credentials{AccessKey: c.AccessKey, SecretKey: string(c.SecretKey)}
}

// HTTPConfig is where the REST API listens, and whom it answers.
type HTTPConfig struct {
	Listen string     `yaml:"listen"`
	TLS    *TLSConfig `yaml:"tls"`
	Tokens bool       `yaml:"tokens"` // without, whoever reaches it may do all
	Hosts  []string   `yaml:"hosts"`
}

// loopback tells whether only this machine reaches a host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// TLSConfig names a certificate and its key.
type TLSConfig struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// RetentionConfig is how long things are kept, from their arrival.
type RetentionConfig struct {
	Measurement Age `yaml:"measurement"`
	Detection   Age `yaml:"detection"`
	Health      Age `yaml:"health"`
	Spectrum    Age `yaml:"spectrum"`
	Recording   Age `yaml:"recording"`
	Gap         Age `yaml:"gap"`
	Audit       Age `yaml:"audit"`
}

// keep is the same for who removes things. What was rejected and what stations replied is kept like measurements, but for
// replies that may still be needed to make a recording. Sites are few, and kept.
func (c RetentionConfig) keep() retention.Keep {
	replies := max(c.Measurement, c.Recording)
	if c.Measurement == 0 || c.Recording == 0 {
		replies = 0 // for ever
	}
	return retention.Keep{
		Records: map[protocol.Kind]time.Duration{
			protocol.KindMeasurement: time.Duration(c.Measurement), protocol.KindDetection: time.Duration(c.Detection),
			protocol.KindHealth: time.Duration(c.Health), protocol.KindSpectrum: time.Duration(c.Spectrum), protocol.KindGap: time.Duration(c.Gap),
			protocol.KindReply: time.Duration(replies),
		},
		Recording: time.Duration(c.Recording),
		Rejected:  time.Duration(c.Measurement),
		Audit:     time.Duration(c.Audit),
	}
}

// LimitsConfig protects the collector from a single station and from a full disk.
type LimitsConfig struct {
	StationRate  float64       `yaml:"station_rate"`
	StationBytes configs.Bytes `yaml:"station_bytes"`
	Message      configs.Bytes `yaml:"message"`
	CaptureBytes configs.Bytes `yaml:"capture_bytes"`
	Store        Room          `yaml:"store"`
	// A station is suspended when more of its records are rejected.
	RejectedPerMinute int `yaml:"rejected_per_minute"`
	RejectedPerHour   int `yaml:"rejected_per_hour"`
}

// LogConfig is what is logged, and how.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

const aDay = Age(24 * time.Hour)

// DefaultConfig needs nothing outside this process: an embedded broker, SQLite and a folder below ./heimdall-data.
func DefaultConfig() Config {
	return Config{
		ID:   "main",
		MQTT: MQTTConfig{Prefix: "heimdall", Embedded: EmbeddedConfig{Listen: "127.0.0.1:18830"}, SharedGroup: "heimdall", HomeAssistant: HomeAssistantConfig{Prefix: protocol.DefaultHomeAssistant}},
		HTTP: HTTPConfig{Listen: "127.0.0.1:8090", Hosts: []string{}},
		Data: "heimdall-data",
		Log:  LogConfig{Level: "info", Format: "text"},
		Retention: RetentionConfig{
			Measurement: 365 * aDay, Detection: 365 * aDay, Health: 365 * aDay, Spectrum: 30 * aDay, Recording: 90 * aDay,
		},
		Limits: LimitsConfig{
			StationRate: 20000, StationBytes: 8 << 20, Message: 128 << 10, CaptureBytes: 256 << 20, Store: Room{Part: 0.8},
			RejectedPerMinute: 100, RejectedPerHour: 1000,
		},
	}
}

// findConfig applies the documented order; an empty path means that everything is embedded.
func findConfig(flag string) string {
	if flag != "" {
		return flag
	}
	if path := os.Getenv("HEIMDALL_COLLECTOR_CONFIG"); path != "" {
		return path
	}
	path := systemConfig()
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func systemConfig() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Heimdall", "collector.yaml")
	case "darwin":
		return "/Library/Application Support/Heimdall/collector.yaml"
	}
	return "/etc/heimdall/collector.yaml"
}

// LoadConfig reads a file over the defaults, then takes the secrets that the environment sets. An empty path gives the
// defaults.
func LoadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	if path != "" {
		err := configs.Read(path, &cfg)
		if errors.Is(err, fs.ErrNotExist) {
			return Config{}, fmt.Errorf("%s is not there: `heimdall-collector init --config %s` asks three questions and writes it; the service's own is %s", path, path, systemConfig())
		}
		if err != nil {
			return Config{}, err
		}
	}
	if err := cfg.takeSecrets(); err != nil {
		return Config{}, err
	}
	cfg.embed()
	return cfg, nil
}

// takeSecrets takes what the environment or the service manager sets, which is as wrong there as it would be in the file.
func (c *Config) takeSecrets() error {
	for _, secret := range []struct {
		name, credential string
		into             *configs.Secret
		bad              func() error
	}{
		{"HEIMDALL_COLLECTOR_MQTT_PASSWORD", "mqtt.password", &c.MQTT.Password, func() error {
			if c.MQTT.Username == "" {
				return errors.New("mqtt.username: " + noUsername)
			}
			return nil
		}},
		{"HEIMDALL_COLLECTOR_STORE_URL", "store.url", &c.Store.URL, func() error { return store.Valid(string(c.Store.URL)) }},
		{"HEIMDALL_COLLECTOR_ARCHIVE_SECRET_KEY", "archive.secret_key", &c.Archive.SecretKey, func() error { return nil }},
	} {
		name, v, err := service.Secret(secret.name, programName+"."+secret.credential)
		if err != nil {
			return err
		}
		if v == "" {
			continue
		}
		if err := cmp.Or(secret.into.UnmarshalText([]byte(v)), secret.bad()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	_, key, err := service.Secret("HEIMDALL_COLLECTOR_ARCHIVE_ACCESS_KEY", programName+".archive.access_key")
	if key != "" {
		c.Archive.AccessKey = key
	}
	return err
}

// embed fills in what is not configured with what is inside this process.
func (c *Config) embed() {
	if c.Store.URL == "" {
		c.Store.URL = configs.Secret("sqlite:" + filepath.Join(c.Data, "heimdall.db"))
	}
	if c.Archive.URL == "" {
		c.Archive.URL = "file:" + filepath.Join(c.Data, "archive")
	}
	if c.MQTT.JSONMirror == nil {
		embedded := c.MQTT.URL == ""
		c.MQTT.JSONMirror = &embedded
	}
}

// localStore is a store in a file or folder of this computer.
type localStore struct{ name, path string }

// localStores are those whose disk this process can ask.
func (c Config) localStores() []localStore {
	var list []localStore
	if path, ok := strings.CutPrefix(string(c.Store.URL), "sqlite:"); ok {
		list = append(list, localStore{"database", path})
	}
	if path, ok := strings.CutPrefix(c.Archive.URL, "file:"); ok {
		list = append(list, localStore{"archive", path})
	}
	return list
}
