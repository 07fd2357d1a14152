package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// Where accounts know another prefix of Home Assistant than the station, nobody refuses what it publishes there: it says so itself, and
// delivers all the same.
func TestHomeAssistant_AnotherPrefixIsTold(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	s := c.station("torino")
	text := append(readFile(t, s.config), "mqtt:\n  homeassistant: {enabled: true, prefix: elsewhere}\n"...)
	if err := os.WriteFile(s.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, exit := s.enrol(t, c.must("station", "code", "torino")); exit != 0 {
		t.Fatal(said)
	}
	agent := start(t, "heimdall-agent", "run", "--config", s.config)
	eventually(t, time.Minute, "it is told", func() error {
		if log := readFile(t, agent.log); !bytes.Contains(log, []byte("mqtt.homeassistant.prefix has to be the collector's")) || !bytes.Contains(log, []byte("elsewhere/status")) {
			return fmt.Errorf("it logs:\n%s", log)
		}
		return nil
	})
	c.waitStatus("torino", "online")
}
