package servers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ObjectStore is a running MinIO.
type ObjectStore struct {
	URL       string // s3://BUCKET?endpoint=http://127.0.0.1:PORT
	Endpoint  string // http://127.0.0.1:PORT
	Bucket    string // not made yet
	AccessKey string
	SecretKey string

	dir  string
	proc *process
}

func minioBinary() (string, error) {
	return find("minio", filepath.Join(CacheDir(), "bin", "minio"))
}

// MinIO starts an empty object store for one test.
func MinIO(tb testing.TB) *ObjectStore {
	tb.Helper()
	started, err := StartMinIO(tb.Context(), tb.TempDir())
	o := must(tb, started, err)
	tb.Cleanup(o.Stop)
	return o
}

// StartMinIO starts an object store that keeps its objects in dir.
func StartMinIO(ctx context.Context, dir string) (*ObjectStore, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	o := &ObjectStore{Endpoint: "http://" + addr, Bucket: "heimdall", AccessKey: "heimdall", SecretKey: "heimdall-test", dir: dir}
	o.URL = "s3://" + o.Bucket + "?endpoint=" + o.Endpoint
	return o, o.Start(ctx)
}

// Start starts a stopped or killed store again, at the same address.
func (o *ObjectStore) Start(ctx context.Context) error {
	bin, err := minioBinary()
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, "server", "--quiet", "--address", strings.TrimPrefix(o.Endpoint, "http://"), filepath.Join(o.dir, "objects"))
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+o.AccessKey, "MINIO_ROOT_PASSWORD="+o.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=1")
	if o.proc, err = start(cmd, filepath.Join(o.dir, "minio.log")); err != nil {
		return err
	}
	return waitUntil(ctx, "MinIO", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.Endpoint+"/minio/health/ready", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("health check says %s", resp.Status)
		}
		return nil
	})
}

// Stop ends the store cleanly.
func (o *ObjectStore) Stop() { o.proc.stop(syscall.SIGTERM) }
