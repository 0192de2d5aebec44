package s3store

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// A Config says where the objects are and how to talk to whoever keeps them.
type Config struct {
	// URL is s3://bucket or s3://bucket/prefix, or file:///path for a folder.
	URL string

	// Endpoint is the base URL of an S3 that is not Amazon's, as
	// http://127.0.0.1:9000. Empty means Amazon's for the Region.
	Endpoint string
	// Region goes into the signature; empty means what the environment says, and
	// us-east-1 if that says nothing, which stores without regions expect.
	Region string
	// Client picks the SDK, "aws" or "minio". Empty means minio where there is an
	// Endpoint and aws where there is none.
	Client string
	// PathStyle puts the bucket into the path and not into the host name. It is
	// implied by an Endpoint, since few stores have wildcard names.
	PathStyle bool

	// AccessKey and SecretKey override the SDK's usual chain (environment, files,
	// instance roles) if AccessKey is set.
	AccessKey, SecretKey string

	// StallTimeout is how long a connection may be silent while a body is
	// expected; 0 means DefaultStallTimeout.
	StallTimeout time.Duration

	// Observe is told of every exchange; may be nil.
	Observe Observe
}

// OpenBucket makes the driver that c asks for. It speaks to nobody: what it
// returns is an error in the configuration, or a folder that cannot be used. An
// S3 bucket that is down, missing or forbidden shows with the first call.
//
// A Bucket needs no closing; its idle connections end by themselves.
func OpenBucket(ctx context.Context, c Config) (Bucket, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("store.url %q: %w", c.URL, err)
	}
	switch {
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
		return openFolder(filepath.Clean(u.Path), c.Observe)
	case u.Scheme == "s3" && u.Host != "":
		return openS3(ctx, c, u.Host, strings.Trim(u.Path, "/"))
	}
	return nil, fmt.Errorf("store.url %q: write s3://bucket/prefix or file:///absolute/path", c.URL)
}

func openS3(ctx context.Context, c Config, bucket, prefix string) (Bucket, error) {
	endpoint, err := parseEndpoint(c.Endpoint)
	if err != nil {
		return nil, err
	}
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, fmt.Errorf("store.url %q: %w", c.URL, err)
		}
	}
	c.PathStyle = c.PathStyle || endpoint != nil
	if c.Client == "" {
		if c.Client = "aws"; endpoint != nil {
			c.Client = "minio"
		}
	}
	var b Bucket
	switch c.Client {
	case "aws":
		b, err = openAWS(ctx, c, endpoint, bucket)
	case "minio":
		b, err = openMinio(c, endpoint, bucket)
	default:
		err = fmt.Errorf("store.s3.client %q: write aws or minio", c.Client)
	}
	if err != nil || prefix == "" {
		return b, err
	}
	return prefixed{b, prefix + "/"}, nil
}

// parseEndpoint returns nil for none.
func parseEndpoint(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("store.s3.endpoint %q: write http://host:port or https://host", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
