package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
)

// trialPrefix is before the key of what Try stores. Nothing stays there.
const trialPrefix = "trial/"

// Try does with an object of its own what recordings need, and removes it: puts it, reads a range of it, sends it in parts where
// that is done. It tells what it did. It makes the bucket if it is absent and the account may.
func (a *Archive) Try(ctx context.Context) (did []string, err error) {
	if err := a.objects.check(ctx); err != nil {
		return nil, err
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("name an object: %w", err)
	}
	key := trialPrefix + hex.EncodeToString(random[:])
	text := []byte("heimdall-collector tries whether it can store recordings here")
	if err := a.objects.put(ctx, key, "text/plain", int64(len(text)), bytes.NewReader(text)); err != nil {
		return nil, err
	}
	did, err = a.tryObject(ctx, key, text)
	removed := a.objects.remove(context.WithoutCancel(ctx), key)
	if err = errors.Join(err, removed); err != nil {
		return nil, err
	}
	return append(did, "delete"), nil
}

// tryObject reads the end of an object, and stores it once more in parts.
func (a *Archive) tryObject(ctx context.Context, key string, text []byte) (did []string, err error) {
	o, err := a.objects.open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	half := len(text) / 2
	if _, err := o.Seek(int64(half), io.SeekStart); err != nil {
		return nil, err
	}
	got, err := io.ReadAll(o)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, text[half:]) {
		return nil, fmt.Errorf("read the end of %s: other bytes came than were stored: it is no store that answers ranges", key)
	}
	did = []string{"put", "ranged get"}
	if b, ok := a.objects.(*bucket); ok {
		return append(did, "multipart"), b.tryParts(ctx, key, text)
	}
	return did, nil
}

// tryParts stores an object by the calls that a large one takes. The last part may be short, also where it is the first.
func (b *bucket) tryParts(ctx context.Context, key string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	core, name := minio.Core{Client: b.client}, b.target.prefix+key
	id, err := core.NewMultipartUpload(ctx, b.target.bucket, name, minio.PutObjectOptions{ContentType: "text/plain"})
	if err != nil {
		return b.explain("begin an upload in parts of "+key, err)
	}
	part, err := core.PutObjectPart(ctx, b.target.bucket, name, id, 1, bytes.NewReader(text), int64(len(text)), minio.PutObjectPartOptions{})
	if err == nil {
		_, err = core.CompleteMultipartUpload(ctx, b.target.bucket, name, id, []minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}, minio.PutObjectOptions{})
	}
	if err != nil {
		return errors.Join(b.explain("store "+key+" in parts", err), core.AbortMultipartUpload(context.WithoutCancel(ctx), b.target.bucket, name, id))
	}
	return nil
}
