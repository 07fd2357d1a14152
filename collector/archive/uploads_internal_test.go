package archive

import (
	"testing"

	"github.com/minio/minio-go/v7"
)

// newUpload begins a multipart upload and leaves it.
func newUpload(t *testing.T, b *bucket, key string) (string, error) {
	t.Helper()
	core := minio.Core{Client: b.client}
	return core.NewMultipartUpload(t.Context(), b.target.bucket, b.target.prefix+key, minio.PutObjectOptions{})
}

func uploadExists(t *testing.T, b *bucket, key, id string) bool {
	t.Helper()
	core := minio.Core{Client: b.client}
	_, err := core.ListObjectParts(t.Context(), b.target.bucket, b.target.prefix+key, id, 0, 10)
	return err == nil
}
