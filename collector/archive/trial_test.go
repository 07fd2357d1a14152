package archive_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fulgidus/heimdall/collector/archive"
	"github.com/fulgidus/heimdall/packaging/servers"
)

func trialLeavesNothing(t *testing.T, p place) {
	a := p.open(t, newSource())
	did, err := a.Try(t.Context())
	want := []string{"put", "ranged get", "delete"}
	if strings.HasPrefix(p.location, "s3:") {
		want = []string{"put", "ranged get", "multipart", "delete"}
	}
	if err != nil || !slices.Equal(did, want) {
		t.Errorf("did %q, %v; want %q", did, err, want)
	}
	folder, isFolder := strings.CutPrefix(p.location, "file:")
	if !isFolder {
		return
	}
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s stays", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What a store cannot do is told, and the object goes all the same.
func TestTry_TellsWhatFails(t *testing.T) {
	store := servers.MinIO(t)
	endpoint, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(endpoint)
	keys := archive.Credentials{AccessKey: store.AccessKey, SecretKey: store.SecretKey}
	for what, refuse := range map[string]func(*http.Request) bool{
		"in parts": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploads") },
		"read":     func(r *http.Request) bool { return r.Method == http.MethodGet && r.Header.Get("Range") != "" },
		"store": func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/trial/")
		},
	} {
		removed := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refuse(r) {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			removed = removed || r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/trial/")
			forward.ServeHTTP(w, r)
		}))
		p := place{location: "s3://heimdall?endpoint=" + server.URL, keys: keys}
		did, err := p.open(t, newSource()).Try(t.Context())
		if did != nil || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: did %q, %v", what, did, err)
		}
		if removed != (what != "store") {
			t.Errorf("%s: removed: %v", what, removed)
		}
		server.Close()
	}
	if _, err := archive.Open(t.Context(), archive.Config{Location: "file:" + filepath.Join(os.DevNull, "x")}); err == nil {
		t.Error("a folder below a device was taken")
	}
}
