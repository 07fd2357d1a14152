package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// revalidate is the Cache-Control of what changes, or may be removed: keep it, and ask each time whether it is still the same.
const revalidate = "private, no-cache"

// sendKnown answers with JSON, or with 304 when the client has it already.
func sendKnown(w http.ResponseWriter, r *http.Request, value any) error {
	body, err := marshal(value)
	if err != nil {
		return err
	}
	return sendKnownBytes(w, r, jsonType, append(body, '\n'))
}

// sendAlike is sendKnown for what moves on by itself: the client has it already when all that is steady in it is the same.
func sendAlike(w http.ResponseWriter, r *http.Request, value, steady any) error {
	body, err := marshal(value)
	if err != nil {
		return err
	}
	same, err := marshal(steady)
	if err != nil {
		return err
	}
	return sendTagged(w, r, jsonType, append(body, '\n'), "W/"+tagOf(same))
}

func sendKnownBytes(w http.ResponseWriter, r *http.Request, mediaType string, body []byte) error {
	return sendTagged(w, r, mediaType, body, tagOf(body))
}

func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

func sendTagged(w http.ResponseWriter, r *http.Request, mediaType string, body []byte, tag string) error {
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", revalidate)
	if has(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return sendBytes(w, r, http.StatusOK, mediaType, body)
}

// has tells whether If-None-Match names a tag, by the weak comparison that it asks for. None of ours has a comma in it.
func has(headers []string, tag string) bool {
	for _, header := range headers {
		for one := range strings.SplitSeq(header, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}
