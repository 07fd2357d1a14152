package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPlainToTLSNamesTheMend(t *testing.T) {
	t.Setenv(tokenVariable, "")
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	at := remote{URL: strings.Replace(server.URL, "https:", "http:", 1)}
	if err := at.call(t.Context(), http.MethodGet, "/", nil, nil); err == nil || !strings.Contains(err.Error(), "write https://") {
		t.Errorf("got %v", err)
	}
}
