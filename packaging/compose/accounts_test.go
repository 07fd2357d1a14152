package compose_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/packaging/servers"
	"github.com/fulgidus/heimdall/protocol"
)

const patience = 30 * time.Second

// broker starts Mosquitto as the services accounts and broker do: with the accounts that the first makes, and with mosquitto.conf.
func broker(t *testing.T, accounts service, password string) *servers.Broker {
	t.Helper()
	dir := t.TempDir()
	steps := strings.ReplaceAll(accounts.Entrypoint[len(accounts.Entrypoint)-1], "/accounts", dir)
	for range 2 { // each start of the containers runs it
		script := exec.CommandContext(t.Context(), "/bin/sh", "-euc", steps)
		script.Env = append(os.Environ(), "BROKER_PASSWORD="+password)
		if out, err := script.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the accounts' folder holds %v, %v", files, err)
	}
	b := servers.MosquittoWith(t, "")
	b.Stop()
	_, port, err := net.SplitHostPort(b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile("mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf = []byte(strings.NewReplacer("listener 1883", "listener "+port+" 127.0.0.1", "/mosquitto/data", b.Dir, "/accounts", dir).Replace(string(conf)))
	plugin, _, _ := strings.Cut(servers.DynamicSecurity(t, "nobody", "x"), "\n") // where it is on this computer
	conf = regexp.MustCompile("(?m)^plugin .*$").ReplaceAllLiteral(conf, []byte(plugin))
	if os.Getuid() == 0 {
		conf = append(conf, "user root\n"...)
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "mosquitto.conf"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// collector starts one with collector.yaml, but for the addresses of its servers, and gives the address of its API.
func collector(t *testing.T, b *servers.Broker, password string) (api string) {
	t.Helper()
	dir, listen := t.TempDir(), servers.FreeAddress(t)
	program := filepath.Join(dir, "heimdall-collector")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../collector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf, err := os.ReadFile("collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("mqtt://broker:1883", b.URL, "s3://heimdall?endpoint=http://objects:9000", "file:"+dir).Replace(string(conf)) +
		fmt.Sprintf("data: %q\nhttp: {listen: %q}\n", dir, listen)
	path := filepath.Join(dir, "collector.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	run := exec.Command(program, "run", "--config", path)
	run.Stdout, run.Stderr = &said, &said
	run.Env = append(os.Environ(), "HEIMDALL_COLLECTOR_STORE_URL=sqlite:"+filepath.Join(dir, "heimdall.db"), "HEIMDALL_COLLECTOR_MQTT_PASSWORD="+password)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Signal(syscall.SIGTERM)
		if err := run.Wait(); err != nil {
			t.Errorf("the collector ends with %v", err)
		}
		if t.Failed() {
			t.Logf("%s", said.Bytes())
		}
	})
	eventually(t, "the collector is ready", func() bool {
		resp, err := http.Get("http://" + listen + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return "http://" + listen
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// account has the collector make one, and gives its name and password.
func account(t *testing.T, api, kind, name string) protocol.NewAccount {
	t.Helper()
	resp, err := http.Post(api+"/api/v1/accounts", "application/json", strings.NewReader(fmt.Sprintf(`{"kind": %q, "name": %q}`, kind, name)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made protocol.NewAccount
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("an account for %s: %s, %v", name, resp.Status, err)
	}
	return made
}

// login begins a session at the broker.
func login(t *testing.T, b *servers.Broker, username, password string, hears mqtt.MessageHandler) (mqtt.Client, error) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr).SetClientID("test-" + username).SetUsername(username).SetPassword(password).
		SetAutoReconnect(false).SetProtocolVersion(4).SetDefaultPublishHandler(hears))
	token := client.Connect()
	if !token.WaitTimeout(patience) {
		t.Fatal("the broker does not answer")
	}
	t.Cleanup(func() { client.Disconnect(0) })
	return client, token.Error()
}

// The collector's rules hold at this broker from the first start on: a station writes as itself only, and a subscriber reads what is for it.
func TestBrokerHasTheCollectorsAccounts(t *testing.T) {
	folder, values := secrets(t, "minio")
	services := load(t, folder, values)
	b := broker(t, services["accounts"], values["BROKER_PASSWORD"])
	api := collector(t, b, values["BROKER_PASSWORD"])
	torino, reader := account(t, api, "station", "torino"), account(t, api, "subscriber", "home")
	for _, wrong := range [][2]string{{"", ""}, {"torino", "wrong"}, {"genova", torino.Secret}, {"collector", torino.Secret}} {
		if _, err := login(t, b, wrong[0], wrong[1], nil); err == nil {
			t.Errorf("%q is let in", wrong[0])
		}
	}

	heard := make(chan string, 100) // more than come
	subscriber, err := login(t, b, reader.Username, reader.Secret, func(_ mqtt.Client, m mqtt.Message) { heard <- m.Topic() })
	if err != nil {
		t.Fatal(err)
	}
	for filter, may := range map[string]bool{
		"heimdall/v1/+/state": true, "heimdall/v1/+/info": true, "heimdall/v1/+/json/#": true, "#": false, "heimdall/v1/+/site": false, "heimdall/v1/+/iq": false,
		"heimdall/v1/+/command": false,
	} {
		token := subscriber.Subscribe(filter, 1, nil)
		if !token.WaitTimeout(patience) {
			t.Fatal("the broker does not answer")
		}
		for _, code := range token.(*mqtt.SubscribeToken).Result() {
			if (code <= 2) != may {
				t.Errorf("a subscriber asks for %s: %d", filter, code)
			}
		}
	}
	station, err := login(t, b, torino.Username, torino.Secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"heimdall/v1/genova/state", "heimdall/v1/torino/json/health", "heimdall/v1/torino/state", "heimdall/v1/genova/info", "heimdall/v1/torino/info"} {
		if token := station.Publish(topic, 1, false, `{}`); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", topic, token.Error())
		}
	}
	for _, want := range []string{"heimdall/v1/torino/state", "heimdall/v1/torino/info"} { // the last one that was written is the last that comes
		select {
		case topic := <-heard:
			if topic != want {
				t.Errorf("a station's message on %s arrives, want %s", topic, want)
			}
		case <-time.After(patience):
			t.Fatalf("nothing comes on %s", want)
		}
	}
}
