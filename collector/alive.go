package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	longestCommit = 5 * time.Minute // each attempt is given up after one
	answerWithin  = 10 * time.Second
)

// stuck names what has stopped working for a reason of its own, which a new start mends; empty when nothing has. A broker, a
// database and an object store that are away are waited for, and are no such reason.
func (c *Collector) stuck(ctx context.Context) string {
	if c.ingest.Trying() > longestCommit {
		return fmt.Sprintf("one attempt at a commit has lasted for over %s", longestCommit)
	}
	if err := c.askItself(ctx); err != nil && ctx.Err() == nil {
		return fmt.Sprintf("the API does not answer: %v", err)
	}
	return ""
}

// askItself asks the API over its port whether it lives.
func (c *Collector) askItself(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if c.cfg.HTTP.TLS != nil {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // it is made out to another name
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.HTTPAddr()+"/healthz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
