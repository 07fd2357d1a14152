package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/collector/link"
	"github.com/fulgidus/heimdall/collector/store"
	"github.com/fulgidus/heimdall/configs"
)

const (
	// trialTimeout is how long a server may take to show what it can.
	trialTimeout = 15 * time.Second
	// oldestPostgres is the first major version that the tests run against.
	oldestPostgres = 15
	embedded       = "embedded"
	ownAccount     = "collector" // at the broker, unless it is said to be another
)

// database asks for the database and sees what it is.
func (i *interview) database(ctx context.Context) error {
	const what = "database"
	known := string(i.cfg.Store.URL)
	return i.until(ctx, what, "postgres://USER@HOST/NAME or sqlite:PATH", shown(known), func(answer string) error {
		if answer == shown(known) {
			answer = known // with its password
		} else if hasPassword(answer) && answer == i.given[what] {
			return errors.New("a password does not belong into arguments, which everybody on this computer sees: leave it out, and it is asked for")
		}
		for {
			detail, err := i.tryStore(ctx, answer)
			if err == nil {
				i.cfg.Store.URL = configs.Secret(answer)
				i.found(what, shown(answer), detail)
				return nil
			}
			if !store.WantsPassword(err) || hasPassword(answer) {
				return err
			}
			var password configs.Secret
			if err := i.secret(ctx, "password of the database:", "store.url", &password); err != nil {
				return err
			}
			delete(i.references, "store.url") // it names a password, not the whole
			answer = withPassword(answer, string(password), i.as.name)
		}
	})
}

// tryStore says what the database at a URL is, and refuses one that a collector cannot use.
func (i *interview) tryStore(ctx context.Context, address string) (detail string, err error) {
	if err := store.Valid(address); err != nil {
		return "", err
	}
	err = i.as.do(func() error {
		detail, err = describeStore(ctx, address)
		return err
	})
	return detail, err
}

func describeStore(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	db, err := store.OpenExisting(ctx, address, quiet())
	if errors.Is(err, fs.ErrNotExist) {
		return "made by the first start", willBeMade(strings.TrimPrefix(address, "sqlite:"))
	}
	if err != nil {
		return "", err
	}
	defer db.Close()
	d, err := db.Describe(ctx)
	if err != nil {
		return "", unreachable(err, "the answer")
	}
	if err := db.MayMigrate(ctx, d); err != nil {
		return "", err
	}
	number, _, _ := strings.Cut(d.Version, " ") // the rest names who packaged it
	major, _, _ := strings.Cut(number, ".")
	if v, err := strconv.Atoi(major); d.Server == "PostgreSQL" && err == nil && v < oldestPostgres {
		return "", fmt.Errorf("PostgreSQL %s is too old: want %d or newer", number, oldestPostgres)
	}
	switch {
	case d.Server != "PostgreSQL":
		return d.Server + " " + number, nil
	case d.TimescaleVersion == "":
		return number + ", no timescaledb: nothing is compressed. Where the server has it: CREATE EXTENSION timescaledb", nil
	case d.TimescaleEdition == "apache":
		return fmt.Sprintf("%s, timescaledb %s of the Apache licence: without compression", number, d.TimescaleVersion), nil
	}
	return fmt.Sprintf("%s, timescaledb %s with compression", number, d.TimescaleVersion), nil
}

// pendingMigrations is how many the database waits for; one that the first start makes waits for none.
func (i *interview) pendingMigrations(ctx context.Context) (pending int, err error) {
	err = i.as.do(func() error {
		db, err := store.OpenExisting(ctx, string(i.cfg.Store.URL), quiet())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer db.Close()
		d, err := db.Describe(ctx)
		pending = d.Newest - d.Migration
		return err
	})
	return pending, err
}

func (i *interview) migrate(ctx context.Context) error {
	db, err := store.Open(ctx, string(i.cfg.Store.URL), quiet())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Migrate(ctx)
	return err
}

// broker asks for the broker and sees whether a collector can work there.
func (i *interview) broker(ctx context.Context) error {
	return i.until(ctx, "broker", "mqtt://HOST:PORT, mqtts://HOST:PORT or embedded", cmp.Or(i.cfg.MQTT.URL, embedded), func(answer string) error {
		if answer == embedded {
			i.cfg.MQTT = MQTTConfig{Prefix: i.cfg.MQTT.Prefix, Embedded: i.cfg.MQTT.Embedded, SharedGroup: i.cfg.MQTT.SharedGroup}
			detail, err := i.port(ctx, "broker", "mqtt.embedded.listen", &i.cfg.MQTT.Embedded.Listen)
			if err != nil {
				return err
			}
			i.found("broker", embedded, detail)
			return nil
		}
		i.cfg.MQTT.URL, i.cfg.MQTT.Accounts = answer, ""
		var fault error
		i.cfg.checkMQTT(func(field, message string) { fault = errors.Join(fault, fmt.Errorf("%s: %s", field, message)) })
		if fault != nil {
			return fault
		}
		trial, err := i.tryBroker(ctx)
		if err != nil {
			return err
		}
		detail := "publish, subscribe: ok"
		if trial.Plugin {
			detail = "accounts through its dynamic-security plug-in: ok"
			i.cfg.MQTT.Accounts = accountsDynsec
		}
		if trial.Online {
			detail += fmt.Sprintf("; a collector with the id %q is online", i.cfg.ID)
		}
		i.found("broker", answer, detail)
		return nil
	})
}

// api sees whether the port of the REST API is free. Nothing is asked where it is.
func (i *interview) api(ctx context.Context) error {
	_, err := i.port(ctx, "api", "http.listen", &i.cfg.HTTP.Listen)
	return err
}

// port sees whether the collector can listen where it is to, and asks for another place where it cannot.
func (i *interview) port(ctx context.Context, what, field string, listen *string) (detail string, err error) {
	for {
		f := checkPort(ctx, i.cfg, what, field, *listen)
		if f.Verdict != "fail" {
			return f.Detail, nil
		}
		fmt.Fprintf(i.out, "           %s\n", f.Detail)
		answer, err := i.ask(ctx, "           listen on", nextFree(ctx, *listen))
		if err != nil {
			return "", fmt.Errorf("%s: %w", f.Detail, err)
		}
		if host, number, err := net.SplitHostPort(answer); err == nil && number != "" && loopback(host) {
			*listen = answer
			continue
		}
		fmt.Fprintf(i.out, "           %s %q: want an address of this computer alone, for instance 127.0.0.1:9000; others are let in by the configuration\n", field, answer)
	}
}

// nextFree is the first free port after one that is taken; empty: none of the next hundred is.
func nextFree(ctx context.Context, listen string) string {
	host, text, err := net.SplitHostPort(listen)
	taken, errPort := strconv.ParseUint(text, 10, 16)
	if err != nil || errPort != nil {
		return ""
	}
	for port := taken + 1; port <= min(taken+100, math.MaxUint16); port++ {
		address := net.JoinHostPort(host, strconv.FormatUint(port, 10))
		if mayListen(ctx, address) == nil {
			return address
		}
	}
	return ""
}

// tryBroker connects as the account that is known, and asks for what the broker wants to know besides.
func (i *interview) tryBroker(ctx context.Context) (link.Trial, error) {
	askedAccount, askedCA := false, false
	for {
		session, err := brokerConfig(i.cfg, i.cfg.MQTT.URL)
		if err != nil {
			return link.Trial{}, err
		}
		limited, cancel := context.WithTimeout(ctx, trialTimeout)
		trial, err := link.Try(limited, session)
		cancel()
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		switch {
		case untrusted && !askedCA:
			askedCA = true
			err = i.authority(ctx, err)
		case (link.Refused(err) || errors.Is(err, link.ErrNoRights)) && !askedAccount:
			askedAccount = true
			err = i.account(ctx, err)
		default:
			return trial, err
		}
		if err != nil {
			return link.Trial{}, err
		}
	}
}

// authority asks who signed the broker's certificate.
func (i *interview) authority(ctx context.Context, why error) error {
	fmt.Fprintf(i.out, "           %v\n", why)
	path, err := i.ask(ctx, "           file of the authority that signed it", i.cfg.MQTT.CA)
	if err != nil || path == "" {
		return cmp.Or(err, why)
	}
	i.cfg.MQTT.CA = path
	return nil
}

// account asks for the account at the broker.
func (i *interview) account(ctx context.Context, why error) (err error) {
	fmt.Fprintf(i.out, "           %v\n", why)
	if i.cfg.MQTT.Username, err = i.ask(ctx, "           account", cmp.Or(i.cfg.MQTT.Username, ownAccount)); err != nil {
		return err
	}
	return i.secret(ctx, "password of "+i.cfg.MQTT.Username+":", "mqtt.password", &i.cfg.MQTT.Password)
}

// objects asks where recordings are kept and tries all that they need.
func (i *interview) objects(ctx context.Context) error {
	return i.until(ctx, "objects", "s3://BUCKET?endpoint=URL or file:PATH", i.cfg.Archive.URL, func(answer string) error {
		if err := archive.Valid(answer); err != nil {
			return err
		}
		i.cfg.Archive.URL = answer
		if path, isFolder := strings.CutPrefix(answer, "file:"); isFolder {
			i.cfg.Archive.AccessKey, i.cfg.Archive.SecretKey = "", ""
			path = strings.TrimPrefix(path, "//")
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				if err := i.as.do(func() error { return willBeMade(path) }); err != nil {
					return err
				}
				i.found("objects", answer, "made by the first start")
				return nil
			}
		} else if i.cfg.Archive.SecretKey == "" {
			if err := i.keys(ctx); err != nil {
				return err
			}
		}
		did, err := i.tryArchive(ctx)
		if err != nil {
			i.cfg.Archive.SecretKey = "" // the keys are asked again, too
			return err
		}
		i.found("objects", answer, strings.Join(did, ", ")+": ok")
		return nil
	})
}

// keys asks for the account at the object store.
func (i *interview) keys(ctx context.Context) (err error) {
	if i.cfg.Archive.AccessKey, err = i.ask(ctx, "           access key", i.cfg.Archive.AccessKey); err != nil {
		return err
	}
	return i.secret(ctx, "secret key:", "archive.secret_key", &i.cfg.Archive.SecretKey)
}

func (i *interview) tryArchive(ctx context.Context) (did []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	err = i.as.do(func() error {
		a, err := archive.Open(ctx, archive.Config{Location: i.cfg.Archive.URL, Credentials: i.cfg.Archive.credentials(), Log: quiet()})
		if err != nil {
			return err
		}
		defer a.Close()
		did, err = a.Try(ctx)
		return err
	})
	return did, unreachable(err, "the answer")
}

// secret asks for a secret, which is not shown.
func (i *interview) secret(ctx context.Context, question, key string, into *configs.Secret) error {
	text, err := i.in.Hidden(ctx, i.out, "           "+question+" ")
	if err != nil {
		return err
	}
	return i.take(key, text, into)
}

// hasPassword tells whether a database's URL holds a password. One that cannot be read may.
func hasPassword(address string) bool {
	if strings.HasPrefix(address, "sqlite:") {
		return false
	}
	u, err := url.Parse(address)
	if err != nil {
		return true
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// withPassword puts a password into a database's URL, and the user where there is none in it.
func withPassword(address, password, user string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.User = url.UserPassword(cmp.Or(u.User.Username(), u.Query().Get("user"), user, operator()), password)
	return u.String()
}

// shown is a database's URL for people, who need what its query says of the place.
func shown(address string) string {
	if hasPassword(address) {
		return redact(address)
	}
	return address
}
