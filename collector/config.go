package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
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

// checkAccounts reports what the accounts need.
func (c MQTTConfig) checkAccounts(report func(field, message string)) {
	host, _, err := net.SplitHostPort(c.Embedded.Listen)
	beyond := err == nil && !loopback(host)
	switch {
	case !slices.Contains([]string{"", accountsNone, accountsEmbedded, accountsDynsec, accountsFiles}, c.Accounts):
		report("mqtt.accounts", "want none, embedded, dynsec or files")
	case c.URL == "" && (c.Accounts == accountsDynsec || c.Accounts == accountsFiles):
		report("mqtt.accounts", "that is for an outside broker, which mqtt.url names; the embedded one has none or embedded")
	case c.URL == "" && beyond && c.Accounts == accountsNone:
		report("mqtt.accounts", "other computers reach mqtt.embedded.listen, so there must be accounts: write embedded, or leave it out")
	case c.URL != "" && c.Accounts == accountsEmbedded:
		report("mqtt.accounts", "that is for the embedded broker; leave mqtt.url out, or write dynsec or files")
	case c.Accounts == accountsDynsec && c.Username == "":
		report("mqtt.username", "missing: dynsec needs the account of the plug-in that has its role admin")
	case (c.Accounts == accountsFiles) != (c.AccountsFolder != ""):
		report("mqtt.accounts_folder", "name the folder for the broker's files, together with mqtt.accounts: files")
	}
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

// Age is a length of time as [configs.Duration] reads it, or "forever", which is 0.
type Age time.Duration

// UnmarshalText reads an age.
func (a *Age) UnmarshalText(text []byte) error {
	if string(text) == "forever" {
		*a = 0
		return nil
	}
	var d configs.Duration
	if err := d.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w, or forever", err)
	}
	if d <= 0 {
		return fmt.Errorf("%q keeps nothing; write a time above 0, or forever", text)
	}
	*a = Age(d)
	return nil
}

// String prints the age as it is written.
func (a Age) String() string {
	switch {
	case a == 0:
		return "forever"
	case a%(365*aDay) == 0:
		return fmt.Sprintf("%dy", a/(365*aDay))
	case a%aDay == 0:
		return fmt.Sprintf("%dd", a/aDay)
	}
	return configs.Duration(a).String()
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

// Room bounds recordings: a part of the disk that a folder of them is on, bytes of them, or nothing.
type Room struct {
	Part  float64 // of the disk in use, of 1
	Bytes configs.Bytes
}

// UnmarshalText reads 80%, 500GiB or none.
func (r *Room) UnmarshalText(text []byte) error {
	*r = Room{}
	if string(text) == "none" {
		return nil
	}
	if percent, ok := strings.CutSuffix(string(text), "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return fmt.Errorf("%q: want a part of the disk from 1%% to 100%%, bytes such as 500GiB, or none", text)
		}
		r.Part = v / 100
		return nil
	}
	if err := r.Bytes.UnmarshalText(text); err != nil || r.Bytes <= 0 {
		return fmt.Errorf("%q: want a part of the disk such as 80%%, bytes such as 500GiB, or none", text)
	}
	return nil
}

// String prints it as it is written.
func (r Room) String() string {
	switch {
	case r.Part > 0:
		return strconv.FormatFloat(100*r.Part, 'g', 4, 64) + "%"
	case r.Bytes > 0:
		return r.Bytes.String()
	}
	return "none"
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

// Check reports what the types cannot tell.
func (c *Config) Check(report func(field, message string)) {
	if protocol.ValidCollector(c.ID) != nil {
		report("id", "want 1 to 32 of a-z, 0-9 and -, another for each collector")
	}
	c.checkMQTT(report)
	if s := string(c.Store.URL); s != "" {
		if err := store.Valid(s); err != nil {
			report("store.url", err.Error())
		}
	}
	if s := c.Archive.URL; s != "" {
		if err := archive.Valid(s); err != nil {
			report("archive.url", err.Error())
		}
	}
	c.checkHTTP(report)
	if c.Data == "" {
		report("data", "name a directory")
	}
	if c.Limits.Message < 4<<10 || c.Limits.Message > 16<<20 {
		report("limits.message", "want 4KiB to 16MiB")
	}
	if c.Limits.StationRate <= 0 {
		report("limits.station_rate", "want records per second above 0")
	}
	if c.Limits.StationBytes <= 0 {
		report("limits.station_bytes", "want bytes per second above 0")
	}
	if c.Limits.CaptureBytes < 1<<20 {
		report("limits.capture_bytes", "want at least 1MiB")
	}
	if c.Limits.RejectedPerMinute < 1 {
		report("limits.rejected_per_minute", "want records a minute from 1 on; a very large number suspends no station")
	}
	if c.Limits.RejectedPerHour < 1 {
		report("limits.rejected_per_hour", "want records an hour from 1 on; a very large number suspends no station")
	}
	oneOf(report, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(report, "log.format", c.Log.Format, "text", "json")
}

func oneOf(report func(field, message string), field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		report(field, "want "+strings.Join(allowed[:len(allowed)-1], ", ")+" or "+allowed[len(allowed)-1])
	}
}

func (c *Config) checkMQTT(report func(field, message string)) {
	if protocol.ValidPrefix(c.MQTT.Prefix) != nil {
		report("mqtt.prefix", "want levels without + # or space, such as heimdall or club/heimdall")
	}
	if protocol.ValidPrefix(c.MQTT.HomeAssistant.Prefix) != nil {
		report("mqtt.homeassistant.prefix", "want levels without + # or space, such as homeassistant")
	}
	if c.MQTT.SharedGroup == "" || strings.ContainsAny(c.MQTT.SharedGroup, "/+#") {
		report("mqtt.shared_group", "want a name without /, + and #")
	}
	if c.MQTT.Password != "" && c.MQTT.Username == "" {
		report("mqtt.username", noUsername)
	}
	c.MQTT.checkAccounts(report)
	if c.MQTT.PublicURL != "" {
		checkBrokerURL(report, "mqtt.public_url", c.MQTT.PublicURL)
	}
	if c.MQTT.URL == "" {
		if _, port, err := net.SplitHostPort(c.MQTT.Embedded.Listen); err != nil || port == "" {
			report("mqtt.embedded.listen", "want host:port, for instance 127.0.0.1:18830; port 0 takes any free one")
		}
		return
	}
	checkBrokerURL(report, "mqtt.url", c.MQTT.URL)
	if (c.MQTT.Cert == "") != (c.MQTT.Key == "") {
		report("mqtt.cert", "a client certificate needs both mqtt.cert and mqtt.key")
	}
}

// hostName is a name as it stands in an address.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)

// checkBrokerURL wants the address of a broker.
func checkBrokerURL(report func(field, message string), field, address string) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "mqtt" && u.Scheme != "mqtts") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		report(field, "want mqtt://host:1883 or mqtts://host:8883")
	case u.User != nil:
		report(field, "leave user and password out of the URL; use mqtt.username and mqtt.password")
	}
}

const noUsername = "missing: mqtt.password needs the account that it belongs to"

// checkListen wants an address that only this machine reaches; why tells the reason and what to do instead.
func checkListen(report func(field, message string), field, address, example, why string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		report(field, "want host:port, for instance "+example+"; port 0 takes any free one")
		return
	}
	if !loopback(host) {
		report(field, "only a loopback address, for instance "+example+", "+why)
	}
}

func (c *Config) checkHTTP(report func(field, message string)) {
	if t := c.HTTP.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
		report("http.tls", "a certificate needs both http.tls.cert and http.tls.key; {} is one of the collector's own authority")
	}
	for _, name := range c.HTTP.Hosts {
		if net.ParseIP(name) == nil && !hostName.MatchString(name) {
			report("http.hosts", "want names or addresses without a port, such as heimdall.example.org")
		}
	}
	if c.HTTP.Tokens {
		if _, port, err := net.SplitHostPort(c.HTTP.Listen); err == nil && port != "" {
			return
		}
	}
	checkListen(report, "http.listen", c.HTTP.Listen, "127.0.0.1:8090",
		"unless http.tokens is true: set it, also behind a reverse proxy, or whoever comes through that may do all. TLS comes with it, "+
			"by a certificate of the collector's own authority unless http.tls names another")
}
