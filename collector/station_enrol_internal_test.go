package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fulgidus/heimdall/configs"
	"github.com/fulgidus/heimdall/protocol"
)

// The code alone is on standard output; what a person needs beside it is not.
func TestStationCode_SaysWhatGoesWithIt(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(protocol.MintedCode{Station: "torino", Code: "hd1.x", Expires: "2026-11-24T03:00:00.123456789Z", Notes: []string{"set http.hosts"}})
	}))
	defer server.Close()
	var out, said bytes.Buffer
	c := StationCodeCmd{remote: remote{URL: server.URL}, Station: "torino", TTL: configs.Duration(time.Hour)}
	if err := c.Run(t.Context(), streams{out: &out, err: &said}); err != nil {
		t.Fatal(err)
	}
	if want := "for station torino, one use, until 2026-11-24 03:00 UTC\nnote: set http.hosts\n"; out.String() != "hd1.x\n" || said.String() != want {
		t.Errorf("out %q, said %q, want %q", out.String(), said.String(), want)
	}
	for _, ttl := range []time.Duration{time.Second, 8 * 24 * time.Hour} {
		c.TTL = configs.Duration(ttl)
		if err := c.Run(t.Context(), streams{out: &out, err: &said}); !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "--ttl ") || !strings.Contains(err.Error(), "want 1m to 7d") {
			t.Errorf("%v: %v", ttl, err)
		}
	}
}
