package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// partBytes is the size above which an object goes up in parts, and the memory one upload needs.
	partBytes = 8 << 20
	// attempts bounds the client's own retries; Run tries again after that.
	attempts = 3
	// slowestUpload in bytes/s is what an upload is expected to reach before it counts as stalled.
	slowestUpload = 64 << 10
	// answerTimeout bounds a request that carries no samples.
	answerTimeout = 30 * time.Second
)

// bucket keeps objects in a bucket of an S3-compatible store. Only plain S3 calls are used: HEAD and PUT bucket, PUT,
// GET, HEAD and DELETE object, multipart upload, list of uploads.
type bucket struct {
	client *minio.Client
	target s3Target
}

func openS3(target s3Target, keys Credentials) (*bucket, error) {
	client, err := minio.New(target.endpoint, &minio.Options{
		Creds:      credentials.NewStaticV4(keys.AccessKey, keys.SecretKey, keys.SessionToken),
		Secure:     target.secure,
		Region:     target.region,
		MaxRetries: attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("archive endpoint %q: %w", target.endpoint, err)
	}
	return &bucket{client: client, target: target}, nil
}

func (b *bucket) put(ctx context.Context, key, contentType string, size int64, r io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout+time.Duration(size/slowestUpload)*time.Second)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.target.bucket, b.target.prefix+key, r, size, minio.PutObjectOptions{
		ContentType:    contentType,
		PartSize:       partBytes,
		SendContentMd5: true, // the store refuses what was damaged on the way
	})
	if err != nil {
		return b.explain("store "+key, err)
	}
	return nil
}

func (b *bucket) open(ctx context.Context, key string) (object, error) {
	asked, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	info, err := b.client.StatObject(asked, b.target.bucket, b.target.prefix+key, minio.StatObjectOptions{})
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return nil, notFound(key)
	}
	if err != nil {
		return nil, b.explain("find "+key, err)
	}
	get := func(offset int64) (io.ReadCloser, error) {
		options := minio.GetObjectOptions{}
		// The entity tag keeps a reader from joining pieces of two versions.
		if err := errors.Join(options.SetRange(offset, info.Size-1), options.SetMatchETag(info.ETag)); err != nil {
			return nil, fmt.Errorf("ask for a range of %s: %w", key, err)
		}
		core := minio.Core{Client: b.client}
		body, _, _, err := core.GetObject(ctx, b.target.bucket, b.target.prefix+key, options)
		if err != nil {
			return nil, b.explain("read "+key, err)
		}
		return body, nil
	}
	return &remote{get: get, length: info.Size, time: info.LastModified}, nil
}

func (b *bucket) remove(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := b.client.RemoveObject(ctx, b.target.bucket, b.target.prefix+key, minio.RemoveObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).StatusCode != http.StatusNotFound {
		return b.explain("remove "+key, err)
	}
	return nil
}

// sweep aborts multipart uploads that a crash left open: they take room and show nowhere. (MinIO lists those of one
// object only, so none here, and removes them by itself after a day.)
func (b *bucket) sweep(ctx context.Context, before time.Time) error {
	return b.abortUploads(ctx, b.target.prefix+recordingsPrefix, before)
}

// abortUploads aborts the uploads begun before a time. A store that does not let the account list them is left alone.
func (b *bucket) abortUploads(ctx context.Context, prefix string, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	core := minio.Core{Client: b.client}
	var keyMarker, idMarker string
	for {
		page, err := core.ListMultipartUploads(ctx, b.target.bucket, prefix, keyMarker, idMarker, "", 1000)
		switch minio.ToErrorResponse(err).StatusCode {
		case http.StatusNotFound, http.StatusForbidden:
			return nil
		}
		if err != nil {
			return b.explain("list unfinished uploads", err)
		}
		for _, upload := range page.Uploads {
			if !upload.Initiated.Before(before) {
				continue
			}
			if err := core.AbortMultipartUpload(ctx, b.target.bucket, upload.Key, upload.UploadID); err != nil {
				return b.explain("abort unfinished upload", err)
			}
		}
		if !page.IsTruncated {
			return nil
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

// check looks for the bucket and makes it when it is absent.
func (b *bucket) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	found, err := b.client.BucketExists(ctx, b.target.bucket)
	if err != nil {
		return b.explain("look for the bucket", err)
	}
	if found {
		return nil
	}
	err = b.client.MakeBucket(ctx, b.target.bucket, minio.MakeBucketOptions{Region: b.target.region})
	switch minio.ToErrorResponse(err).Code {
	case "BucketAlreadyOwnedByYou": // another collector was faster
		return nil
	}
	if err != nil {
		return b.explain("make the bucket", err)
	}
	return nil
}

func (b *bucket) close() error { return nil }

// explain says what was being done, where, and for the common refusals what to do.
func (b *bucket) explain(doing string, err error) error {
	mend := ""
	switch minio.ToErrorResponse(err).Code {
	case "AccessDenied":
		mend = " (the keys have no permission for this)"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		mend = " (check the archive's access key and secret key)"
	case "NoSuchBucket":
		mend = " (make the bucket, or allow the keys to)"
	}
	return fmt.Errorf("%s in bucket %q at %s: %w%s", doing, b.target.bucket, b.target.endpoint, err, mend)
}

// remote reads an object of a store from any offset. A request is made at the first Read after a Seek.
type remote struct {
	get    func(offset int64) (io.ReadCloser, error)
	length int64
	time   time.Time
	offset int64
	body   io.ReadCloser // nil until the first Read at offset
}

func (r *remote) Read(p []byte) (int, error) {
	if r.offset >= r.length {
		return 0, io.EOF
	}
	if r.body == nil {
		body, err := r.get(r.offset)
		if err != nil {
			return 0, err
		}
		r.body = body
	}
	n, err := r.body.Read(p)
	r.offset += int64(n)
	if errors.Is(err, io.EOF) && r.offset < r.length {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *remote) Seek(offset int64, whence int) (int64, error) {
	target, err := seekTarget(offset, whence, r.offset, r.length)
	if err != nil {
		return 0, err
	}
	if target != r.offset {
		if err := r.Close(); err != nil {
			return 0, err
		}
		r.offset = target
	}
	return target, nil
}

func (r *remote) Close() error {
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}

func (r *remote) size() int64         { return r.length }
func (r *remote) modified() time.Time { return r.time }

// seekTarget is the arithmetic of io.Seeker.
func seekTarget(offset int64, whence int, current, length int64) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += current
	case io.SeekEnd:
		offset += length
	default:
		return 0, fmt.Errorf("seek: %d is no place to count from", whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek: offset %d is before the start", offset)
	}
	return offset, nil
}
