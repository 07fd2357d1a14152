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

func sendKnownBytes(w http.ResponseWriter, r *http.Request, mediaType string, body []byte) error {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
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
			if one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}
