package main

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/protocol"
)

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
