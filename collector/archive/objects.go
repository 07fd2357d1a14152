package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// objects is a place for whole objects under slash-separated keys. Keys are made by this package only.
type objects interface {
	keeper
	// sweep removes what crashed uploads left behind before a time.
	sweep(ctx context.Context, before time.Time) error
	// check tells whether objects can be stored now.
	check(ctx context.Context) error
	close() error
}

// keeper holds objects.
type keeper interface {
	// put stores exactly size bytes of r under the key, replacing what was there. The object is complete and durable
	// when put returns nil, and unchanged when it returns an error. An error of r is returned wrapped.
	put(ctx context.Context, key, contentType string, size int64, r io.Reader) error
	// open gives an object's bytes; its error wraps fs.ErrNotExist when there is none.
	open(ctx context.Context, key string) (object, error)
	// remove makes an object absent, as it may already be.
	remove(ctx context.Context, key string) error
}

// object is an open object.
type object interface {
	io.ReadSeekCloser
	size() int64
	modified() time.Time
}

// Valid is the error of a location that Open can never open, whatever answers there. It shows no key.
func Valid(location string) error {
	scheme, rest, _ := strings.Cut(location, ":")
	switch {
	case scheme == "s3":
		_, err := parseS3(location)
		return err
	case scheme != "file":
		return errors.New("want s3://bucket?endpoint=http://host:9000 or file:PATH")
	case strings.TrimPrefix(rest, "//") == "":
		return errors.New("the path is missing: write file:PATH")
	}
	return nil
}

// openObjects chooses the kind of store by the location's scheme.
func openObjects(location string, keys Credentials) (objects, error) {
	if err := Valid(location); err != nil {
		return nil, locationError(location, err)
	}
	if folder, ok := strings.CutPrefix(location, "file:"); ok {
		return openFolder(strings.TrimPrefix(folder, "//"))
	}
	target, err := parseS3(location)
	if err != nil {
		return nil, locationError(location, err)
	}
	return openS3(target, keys)
}

// s3Target is a parsed s3: location.
type s3Target struct {
	bucket   string
	prefix   string // empty, or ends with a slash
	endpoint string // host[:port]
	secure   bool
	region   string
}

func parseS3(location string) (s3Target, error) {
	bad := func(mend string) (s3Target, error) { return s3Target{}, errors.New(mend) }
	u, err := url.Parse(location)
	if err != nil {
		return bad("write s3://bucket?endpoint=http://host:port&region=name")
	}
	if u.User != nil {
		return bad("keys do not belong in the URL; set archive.access_key and archive.secret_key")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("the part after ? must be endpoint=…&region=…")
	}
	for name, values := range query {
		if name != "endpoint" && name != "region" {
			return bad(fmt.Sprintf("%q is not known; only endpoint and region are", name))
		}
		if len(values) > 1 {
			return bad(name + " is given twice")
		}
	}
	t := s3Target{bucket: u.Host, region: query.Get("region"), endpoint: "s3.amazonaws.com", secure: true}
	if t.bucket == "" {
		return bad("the bucket is missing: write s3://bucket?endpoint=…")
	}
	if err := s3utils.CheckValidBucketName(t.bucket); err != nil {
		return bad(fmt.Sprintf("%q is no bucket's name: 3 to 63 of a-z, 0-9, - and .", t.bucket))
	}
	if t.prefix = strings.Trim(u.Path, "/"); t.prefix != "" {
		t.prefix += "/"
	}
	text := query.Get("endpoint")
	if text == "" {
		return t, nil
	}
	endpoint, err := url.Parse(text)
	if err == nil && endpoint.User != nil {
		return bad("keys do not belong in the endpoint; set archive.access_key and archive.secret_key")
	}
	if err != nil || endpoint.Host == "" || endpoint.Path != "" && endpoint.Path != "/" ||
		endpoint.Scheme != "http" && endpoint.Scheme != "https" {
		return bad("the endpoint must be http://host:port or https://host:port")
	}
	t.endpoint, t.secure = endpoint.Host, endpoint.Scheme == "https"
	if t.region == "" {
		t.region = "us-east-1" // what servers other than Amazon's answer to; asking them would cost a permission
	}
	return t, nil
}

func locationError(location string, err error) error {
	if at := strings.LastIndexByte(location, '@'); at >= 0 && strings.HasPrefix(location, "s3:") {
		location = "s3://***" + location[at:] // keys that do not belong there
	}
	return fmt.Errorf("archive location %q: %w", location, err)
}

// notFound is an absent object.
func notFound(key string) error { return fmt.Errorf("object %s: %w", key, fs.ErrNotExist) }
