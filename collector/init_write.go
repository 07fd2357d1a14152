package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/configs/wholefile"
	"github.com/fulgidus/heimdall/packaging/service"
)

// begin takes what is known before the first question: the answers of a call that was broken off, or the configuration that is
// written over, and secrets of the environment and the service manager.
func (i *interview) begin() error {
	i.cfg, i.references = DefaultConfig(), map[string]string{}
	data, err := i.dataFolder()
	if err != nil {
		return err
	}
	i.cfg.Data = data
	for _, path := range []string{i.draft(), i.path} {
		known := i.cfg
		if err := configs.Read(path, &known); err == nil {
			i.cfg = known
			fmt.Fprintf(i.out, "Proposing what %s says.\n", path)
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(i.out, "Proposing nothing of %s: %v\n", path, err)
		}
	}
	i.cfg.forgetOutside()
	if _, password, _ := service.Secret("HEIMDALL_COLLECTOR_MQTT_PASSWORD", programName+".mqtt.password"); password != "" {
		i.cfg.MQTT.Username = cmp.Or(i.cfg.MQTT.Username, ownAccount)
	}
	if err := i.cfg.takeSecrets(); err != nil {
		return err
	}
	i.cfg.Store.URL = cmp.Or(i.cfg.Store.URL, configs.Secret("sqlite:"+filepath.Join(i.cfg.Data, "heimdall.db")))
	i.cfg.Archive.URL = cmp.Or(i.cfg.Archive.URL, "file:"+filepath.Join(i.cfg.Data, "archive"))
	return nil
}

// forgetOutside listens on this computer alone: how others are let in is not asked here, and takes more than an address.
func (c *Config) forgetOutside() {
	usual := DefaultConfig()
	if !loopbackAddress(c.HTTP.Listen) {
		c.HTTP.Listen = usual.HTTP.Listen
	}
	if !loopbackAddress(c.MQTT.Embedded.Listen) {
		c.MQTT.Embedded.Listen = usual.MQTT.Embedded.Listen
	}
}

// former is where a configuration that is written over stays.
func (i *interview) former() string { return i.path + ".old" }

// draft holds the answers until all is written. It has no secrets.
func (i *interview) draft() string { return i.path + ".draft" }

// keepDraft keeps what somebody has answered; what is proposed needs no keeping.
func (i *interview) keepDraft() error {
	if !i.answered {
		return nil
	}
	known := i.cfg
	known.MQTT.Password, known.Archive.SecretKey = "", ""
	if hasPassword(string(known.Store.URL)) {
		known.Store.URL = ""
	}
	if err := os.MkdirAll(filepath.Dir(i.path), 0o755); err != nil {
		return fmt.Errorf("keep the answers: %w", err)
	}
	if err := os.WriteFile(i.draft(), []byte(known.text(nil)), 0o600); err != nil {
		return fmt.Errorf("keep the answers: %w; run it with sudo, or name another place with --config", err)
	}
	return nil
}

// take takes a secret as it was typed: itself, or file:PATH, which the configuration then names.
func (i *interview) take(key, text string, into *configs.Secret) error {
	delete(i.references, key)
	if path, isFile := strings.CutPrefix(text, "file:"); isFile {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		text = "file:" + path
		i.references[key] = text
	}
	return into.UnmarshalText([]byte(text))
}

// secretKeys are the keys of the configuration whose values are kept in files of their own.
var secretKeys = []string{"store.url", "mqtt.password", "archive.secret_key"}

// secretFile is where the value of such a key is kept.
func secretFile(config, key string) string {
	return strings.TrimSuffix(config, filepath.Ext(config)) + "." + strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

// secretFiles are those that there are beside a configuration.
func secretFiles(config string) (there []string) {
	for _, key := range secretKeys {
		if path := secretFile(config, key); isFile(path) {
			there = append(there, path)
		}
	}
	return there
}

// write writes the secrets and the configuration that names them, for root and the collector only. A configuration that is there
// already stays beside the new one.
func (i *interview) write() error {
	values := map[string]configs.Secret{"mqtt.password": i.cfg.MQTT.Password, "archive.secret_key": i.cfg.Archive.SecretKey}
	if hasPassword(string(i.cfg.Store.URL)) {
		values["store.url"] = i.cfg.Store.URL
	}
	if err := os.MkdirAll(filepath.Dir(i.path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	for _, key := range secretKeys {
		if values[key] == "" || i.references[key] != "" {
			continue
		}
		path := secretFile(i.path, key)
		if err := i.writeFile(path, string(values[key])+"\n"); err != nil {
			return err
		}
		i.references[key] = "file:" + path
	}
	text := i.cfg.text(i.references)
	cfg := DefaultConfig()
	if err := configs.Decode(i.path, []byte(text), &cfg); err != nil {
		return err
	}
	if _, err := os.Stat(i.path); err == nil {
		former := i.former()
		if err := os.Rename(i.path, former); err != nil {
			return fmt.Errorf("keep the former configuration: %w", err)
		}
		fmt.Fprintf(i.out, "The former configuration is %s.\n", former)
	}
	if err := i.writeFile(i.path, text); err != nil {
		return err
	}
	if err := os.Remove(i.draft()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeFile writes a file whole or not at all.
func (i *interview) writeFile(path, text string) error {
	err := wholefile.Write(path, []byte(text), 0o600, i.as.mayRead)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// text is the configuration as a file: what init asks for. References stand for secrets.
func (c *Config) text(references map[string]string) string {
	usual := DefaultConfig()
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %s: %q\n", key, value)
		}
	}
	b.WriteString("# Written by heimdall-collector init. configs/collector.yaml of the source, or the package's example, has every key.\n")
	fmt.Fprintf(&b, "id: %s\ndata: %q\n", c.ID, c.Data)
	if c.MQTT.URL != "" {
		b.WriteString("mqtt:\n")
		line("url", c.MQTT.URL)
		line("username", c.MQTT.Username)
		line("password", references["mqtt.password"])
		line("ca", c.MQTT.CA)
		line("cert", c.MQTT.Cert)
		line("key", c.MQTT.Key)
		line("accounts", c.MQTT.Accounts)
	} else if listen := c.MQTT.Embedded.Listen; listen != usual.MQTT.Embedded.Listen {
		fmt.Fprintf(&b, "mqtt:\n  embedded:\n    listen: %q\n", listen)
	}
	if c.HTTP.Listen != usual.HTTP.Listen {
		b.WriteString("http:\n")
		line("listen", c.HTTP.Listen)
	}
	b.WriteString("store:\n")
	line("url", cmp.Or(references["store.url"], string(c.Store.URL)))
	b.WriteString("archive:\n")
	line("url", c.Archive.URL)
	line("access_key", c.Archive.AccessKey)
	line("secret_key", references["archive.secret_key"])
	return b.String()
}
