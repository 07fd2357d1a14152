package link_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/fulgidus/heimdall/collector/authority"
	"github.com/fulgidus/heimdall/packaging/servers"
)

// mosquittoOf runs a Mosquitto as the guide says, on certificates of an authority.
func mosquittoOf(t *testing.T, a *authority.Authority) (address string) {
	t.Helper()
	dir := t.TempDir()
	pair := must(a.Server([]string{"127.0.0.1"}))
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("ca.pem"), string(a.PEM()))
	write(t, path("broker.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})))
	write(t, path("broker.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	write(t, path("acl"), "pattern write heimdall/v1/%u/#\npattern read heimdall/v1/%u/command\nuser collector\ntopic readwrite heimdall/v1/#\n")
	address = servers.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	user := ""
	if os.Getuid() == 0 {
		user = "user root\n"
	}
	write(t, path("mosquitto.conf"), fmt.Sprintf("%slistener %s 127.0.0.1\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\nuse_identity_as_username true\nacl_file %s\n",
		user, port, path("ca.pem"), path("broker.pem"), path("broker.key"), path("acl")))
	binary := "/usr/sbin/mosquitto"
	if found, err := exec.LookPath("mosquitto"); err == nil {
		binary = found
	}
	cmd := exec.Command(binary, "-c", path("mosquitto.conf"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	eventually(t, "mosquitto", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address
}

// Mosquitto takes the name in a certificate of ours for the account, as the guide has it set up.
func TestMosquitto_KnowsStationsByOurCertificates(t *testing.T) {
	a, foreign := openAuthority(t), openAuthority(t)
	address := mosquittoOf(t, a)
	connect := func(a *authority.Authority, name string) (mqtt.Client, error) {
		o := mqtt.NewClientOptions().AddBroker("ssl://" + address).SetClientID(name).SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(5 * time.Second)
		conf := &tls.Config{RootCAs: a.Pool(), ServerName: "127.0.0.1"}
		if name != "" {
			conf.Certificates = []tls.Certificate{*must(a.Client(name))}
		}
		c := mqtt.NewClient(o.SetTLSConfig(conf))
		token := c.Connect()
		if !token.WaitTimeout(10 * time.Second) {
			t.Fatal("no answer")
		}
		return c, token.Error()
	}
	if _, err := connect(a, ""); err == nil {
		t.Error("let in without a certificate")
	}
	if _, err := connect(foreign, "torino"); err == nil {
		t.Error("let in by another authority")
	}
	collector, err := connect(a, "collector")
	if err != nil {
		t.Fatal(err)
	}
	defer collector.Disconnect(100)
	heard := make(chan string, 16)
	if token := collector.Subscribe("heimdall/v1/#", 1, func(_ mqtt.Client, m mqtt.Message) { heard <- m.Topic() }); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	station, err := connect(a, "torino")
	if err != nil {
		t.Fatal(err)
	}
	defer station.Disconnect(100)
	for _, topic := range []string{"heimdall/v1/genova/state", "heimdall/v1/torino/state"} { // the first is confirmed, and goes nowhere
		if token := station.Publish(topic, 1, false, "x"); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	select {
	case topic := <-heard:
		if topic != "heimdall/v1/torino/state" {
			t.Errorf("heard %s", topic)
		}
	case <-time.After(10 * time.Second):
		t.Error("the station's own topic was not heard")
	}
}
