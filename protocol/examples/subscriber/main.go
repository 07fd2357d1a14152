// Command subscriber prints each detection of all stations.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"os"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// show prints one detection.
func show(_ mqtt.Client, message mqtt.Message) {
	var record struct {
		Time, Station string
		Detection     struct {
			CenterHz float64  `json:"center_hz"`
			SNR      *float64 `json:"snr_db"` // nil: unknown
		}
	}
	if err := json.Unmarshal(message.Payload(), &record); err != nil || record.Detection.SNR == nil {
		return
	}
	fmt.Printf("%s %s %.4f MHz, SNR %v dB\n", record.Time, record.Station, record.Detection.CenterHz/1e6, *record.Detection.SNR)
}

func main() {
	authority, err := os.ReadFile(os.Getenv("MQTT_CA"))
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	options := mqtt.NewClientOptions().AddBroker("ssl://" + os.Getenv("MQTT_HOST") + ":" + os.Getenv("MQTT_PORT")).
		SetUsername(os.Getenv("MQTT_USER")).SetPassword(os.Getenv("MQTT_PASSWORD")).SetTLSConfig(&tls.Config{RootCAs: roots}).
		SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe("heimdall/v1/+/json/detection", 0, show) })
	if token := mqtt.NewClient(options).Connect(); token.Wait() && token.Error() != nil {
		log.Fatal(token.Error())
	}
	select {}
}
