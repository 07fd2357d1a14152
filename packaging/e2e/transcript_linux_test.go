package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/packaging/demo"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// The first runs that the READMEs tell of, at a terminal: what is typed, and the shape of each line that is shown. The one of
// `heimdall-agent setup` at a station is in agent.

// A laptop without any hardware: the demo, then what it says to try, each line as it stands there. It differs from what was first
// designed in little: sizes are in KiB, as everywhere; the subscriber names the host, and acquire the URL, for both may be others
// where a demo runs already.
func TestTranscript_Demo(t *testing.T) {
	t.Parallel()
	x := atTerminal(t, command(t, "heimdall-collector", "demo"))
	x.waitFor("Ctrl-C ends it.")
	transcript := []string{
		`Heimdall demo: a collector and seven simulated stations on this machine, loopback only`,
		`data +/\S+ \(removed at the end; --keep DIR keeps it\)`,
		`broker +mqtt://127.0.0.1:\d+ +api +http://127.0.0.1:\d+`,
		`scene +hidden FM transmitter on 145.500 MHz, seed 7`,
		`\[ ?\d+s\] 7 of 7 stations online +\(Aquila di Giaveno and Coazze share one published place\)`,
		`\[ ?\d+s\] acquisition 145.500 MHz, 5 s, with IQ: capturing`,
		`\[ ?\d+s\] done: 7 of 7`,
		`station +level dBFS +floor dBFS/Hz +SNR dB +bandwidth +start \(uncertainty\) +recording`,
	}
	for _, station := range []string{"coazze", "genova", "giaveno", "giovi", "milano", "montanaro", "torino"} {
		transcript = append(transcript, station+` +-\d+\.\d +-\d+\.\d +\d+\.\d +\d+\.\d+ kHz +\d\d:\d\d:\d\d\.\d{9} \(40ns\) +\d+\.\d KiB`)
	}
	follows(t, x.screen(), append(transcript, `Try: +curl .*`, `mosquitto_sub .*`, `\S+ acquire .*`, `Ctrl-C ends it.`)...)

	_, rest, _ := strings.Cut(x.screen(), "Try:")
	tries := strings.Split(rest, "\n")
	for k, want := range []string{
		`\{"items":\[\{"station":.*"measurement":\{.*`,
		`\{.*"center_hz":145(49|50)\d+.*\}`,
		`torino +-\d+\.\d +-\d+\.\d +\d+\.\d .*`,
	} {
		// It would not end. Each of seven stations may tell of the telemetry before one tells of the transmitter.
		typed := strings.Replace(strings.TrimSpace(tries[k]), "mosquitto_sub ", "timeout 60 mosquitto_sub -C 15 ", 1)
		out, err := exec.Command("sh", "-c", typed).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", typed, err, out)
		}
		follows(t, string(out), want)
	}

	x.press("\x03")
	if code := x.end(); code != 0 {
		t.Errorf("it ends with %d", code)
	}
	follows(t, x.screen(), `.*Stopped; the data is removed.`)
	data := strings.Fields(strings.SplitN(x.screen(), "data ", 2)[1])[0]
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("%s: %v", data, err)
	}
}

// A network operator has a database that wants a password, a broker with the dynamic-security plug-in, and an object store.
func TestTranscript_NetworkOperator(t *testing.T) {
	t.Parallel()
	database, password := guardedPostgres(t)
	broker := guardedMosquitto(t)
	objects := servers.MinIO(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "collector.yaml")

	// Several networks are tried on this computer: an earlier answer keeps this one away from the place of every collector.
	if err := os.WriteFile(config+".draft", fmt.Appendf(nil, "http: {listen: %q}\n", servers.FreeAddress(t)), 0o600); err != nil {
		t.Fatal(err)
	}

	init := command(t, "heimdall-collector", "init", "--config", config)
	init.Dir = dir
	x := atTerminal(t, init)
	x.answer("database, ", strings.Replace(database, "/heimdall?", "/nowhere?", 1))
	x.answer("password of the database:", password)
	x.answer("database, ", database)
	x.answer("password of the database:", password)
	x.answer("broker, ", broker.URL)
	x.answer("account [collector]:", "")
	x.answer("password of collector:", brokerPassword)
	x.answer("objects, ", objects.URL)
	x.answer("access key:", objects.AccessKey)
	x.answer("secret key:", "wrong")
	x.answer("objects, ", "")
	x.answer("access key [", "")
	x.answer("secret key:", objects.SecretKey)
	x.answer("[y/N]", "y")
	if code := x.end(); code != 0 {
		t.Errorf("init ends with %d", code)
	}
	follows(t, x.screen(),
		`ask for .*: the server at \S+ has no database "nowhere": make it with .createdb -O collector nowhere. there, .*`,
		`database +postgres://collector:xxxxx@\S+ +1\d\.\d+, no timescaledb: .*`,
		`connect to \S+: .*not Authorized.*`,
		`broker +mqtt://\S+ +accounts through its dynamic-security plug-in: ok`,
		`.*\(check the archive's access key and secret key\)`,
		`objects +s3://\S+ +put, ranged get, multipart, delete: ok`,
		`Apply \d+ migrations and write \S+? \[y/N\] y`,
		`Wrote \S+/collector.yaml.`,
		`Next: heimdall-collector run --config \S+`)
	text := string(readFile(t, config))
	for _, secret := range []string{password, brokerPassword, objects.SecretKey} {
		if strings.Contains(x.screen()+text, secret) {
			t.Errorf("%q is shown, or in the configuration:\n%s%s", secret, x.screen(), text)
		}
	}
	secrets, err := filepath.Glob(filepath.Join(dir, "collector.*"))
	if err != nil || len(secrets) != 4 {
		t.Errorf("%q, %v", secrets, err)
	}
	for _, path := range secrets {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	start(t, "heimdall-collector", "run", "--config", config)
	follows(t, mustRun(t, "heimdall-collector", "check", "--wait", "30s", "--config", config),
		`ok +database +postgres://\S+ PostgreSQL 1\d.* migration \d+`, `ok +archive +s3://\S+`, `ok +broker +mqtt://\S+ accounts through its dynamic-security plug-in: ok`, `ok +api .*`, `ok +clock .*`)
	agent := writeFile(t, "agent.yaml", fmt.Sprintf("station: {id: torino}\nmqtt: {url: %q, username: torino, password: %q}\n"+
		"receivers: [{id: r0, source: %q, history: 1MiB, measurement: {every: 100ms}}]\nspool: {path: %q, limit: 16MiB}\nmetrics: {listen: ''}\n",
		broker.URL, brokerPassword, "sim:"+writeFile(t, "scene.yaml", string(demo.Scene()))+"?station=torino", t.TempDir()))
	start(t, "heimdall-agent", "run", "--config", agent)
	proof := ""
	eventually(t, time.Minute, "verify proves that what came is there", func() error {
		out, errOut, code := run(t, "heimdall-collector", "verify", "--config", config)
		if code != 0 || !strings.Contains(out, "torino ") {
			return fmt.Errorf("it ends with %d: %s%s", code, out, errOut)
		}
		proof = out
		return nil
	})
	follows(t, proof, `station +spool +first +last +stored +released +gaps +rejected +pending +missing +duplicate`,
		`torino +[0-9a-f]{16} +1 +\d+ +\d+ +0 +0 +0 +\d+ +0 +0`)
}

// guardedPostgres is a server that lets nobody but its administrator in without a password, and a database in it.
func guardedPostgres(t *testing.T) (address, password string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "heimdall-operator-") //nolint:usetesting // its account does not reach what is below t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cluster, err := servers.StartPostgres(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	rules := "host all heimdall 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(cluster.Dir, "data", "pg_hba.conf"), []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"create role collector login password 'pa:ss/word'", "create database heimdall owner collector", "select pg_reload_conf()"} {
		if err := cluster.SQL(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Replace(cluster.URL("heimdall"), "heimdall@", "collector@", 1), "pa:ss/word"
}

const brokerPassword = "broker-secret"

// guardedMosquitto is a broker whose dynamic-security plug-in obeys the account collector; torino may do the same.
func guardedMosquitto(t *testing.T) *servers.Broker {
	t.Helper()
	plugins, err := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so")
	if err != nil || len(plugins) == 0 {
		t.Fatalf("the plug-in of Debian's package mosquitto is not there: %v", err)
	}
	broker := servers.Mosquitto(t)
	broker.Stop()
	accounts := filepath.Join(broker.Dir, "dynamic-security.json")
	if out, err := exec.Command("mosquitto_ctrl", "dynsec", "init", accounts, "collector", brokerPassword).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var known struct {
		Clients []map[string]any `json:"clients"`
		Roles   []struct {
			Name string           `json:"rolename"`
			ACLs []map[string]any `json:"acls"`
		} `json:"roles"`
		Default json.RawMessage `json:"defaultACLAccess"`
	}
	if err := json.Unmarshal(readFile(t, accounts), &known); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern"} {
		known.Roles[0].ACLs = append(known.Roles[0].ACLs, map[string]any{"acltype": kind, "topic": "#", "priority": 0, "allow": true})
	}
	station := map[string]any{}
	for key, value := range known.Clients[0] {
		station[key] = value
	}
	station["username"] = "torino"
	known.Clients = append(known.Clients, station)
	text, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(broker.Dir, "mosquitto.conf")
	settings := strings.Replace(string(readFile(t, conf)), "allow_anonymous true", "allow_anonymous false", 1) +
		"plugin " + plugins[0] + "\nplugin_opt_config_file " + accounts + "\n"
	for path, text := range map[string]string{accounts: string(text), conf: settings} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return broker
}
