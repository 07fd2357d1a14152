package discover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// rtlTCP looks for an rtl_tcp: it greets with four letters. One that is taken accepts and stays silent.
func rtlTCP(ctx context.Context, host string) []Found {
	conn, err := dial(ctx, host, "1234")
	if err != nil {
		return nil
	}
	defer conn.Close()
	var greeting [4]byte
	if _, err := io.ReadFull(conn, greeting[:]); err != nil || string(greeting[:]) != "RTL0" {
		return nil
	}
	return []Found{{Source: "rtltcp://" + host + ":1234", What: "rtl_tcp"}}
}

// spyServer looks for a SpyServer. It speaks when it is spoken to only, so that an open port of its number has to do.
func spyServer(ctx context.Context, host string) []Found {
	conn, err := dial(ctx, host, "5555")
	if err != nil {
		return nil
	}
	conn.Close()
	return []Found{{Source: "spyserver://" + host + ":5555", What: "perhaps a SpyServer: `heimdall-agent probe` will tell"}}
}

// kiwi looks for a KiwiSDR by the status page that it has for everybody.
func kiwi(ctx context.Context, host string) []Found {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := host + ":8073"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", http.NoBody)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	facts := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 1<<16))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			facts[name] = strings.TrimSpace(value)
		}
	}
	if !strings.HasPrefix(facts["sw_version"], "KiwiSDR") {
		return nil
	}
	return []Found{{
		Source: "kiwi://" + address,
		What:   fmt.Sprintf("KiwiSDR %s, %s of %s users", facts["name"], facts["users"], facts["users_max"]),
	}}
}
