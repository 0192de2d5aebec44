package s3test

import (
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

type listed struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
}

type common struct{ Prefix string }

type listing struct {
	XMLName      xml.Name `xml:"ListBucketResult"`
	Name         string
	Prefix       string
	KeyCount     int
	MaxKeys      int
	IsTruncated  bool
	EncodingType string `xml:",omitempty"`
	// minio-go wants a token beside IsTruncated; this one is never accepted.
	NextContinuationToken string   `xml:",omitempty"`
	Contents              []listed `xml:"Contents"`
	CommonPrefixes        []common `xml:"CommonPrefixes"`
}

// keys wants the lock.
func (s *Server) keys() []string { return slices.Sorted(maps.Keys(s.objects)) }

// list is ListObjectsV2, which goes on by start-after only: that is what the
// drivers use.
func (s *Server) list(r *http.Request) *reply {
	q := r.URL.Query()
	prefix, delimiter, after := q.Get("prefix"), q.Get("delimiter"), q.Get("start-after")
	limit, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil || q.Get("list-type") != "2" || q.Has("continuation-token") && q.Get("continuation-token") != "" {
		return refuse(http.StatusBadRequest, "InvalidArgument")
	}
	encode := func(s string) string { return s }
	if q.Get("encoding-type") == "url" {
		encode = url.QueryEscape
	}
	out := listing{Name: Bucket, Prefix: encode(prefix), MaxKeys: limit, EncodingType: q.Get("encoding-type")}
	rolled := ""
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys() {
		if !strings.HasPrefix(key, prefix) || key <= after || rolled != "" && strings.HasPrefix(key, rolled) {
			continue
		}
		if out.KeyCount == limit {
			out.IsTruncated, out.NextContinuationToken = true, "none"
			break
		}
		out.KeyCount++
		if head, _, ok := strings.Cut(key[len(prefix):], delimiter); ok && delimiter != "" {
			rolled = prefix + head + delimiter
			out.CommonPrefixes = append(out.CommonPrefixes, common{encode(rolled)})
			continue
		}
		o := s.objects[key]
		out.Contents = append(out.Contents, listed{encode(key), o.modified.Format(time.RFC3339), `"` + o.etag + `"`, o.size})
	}
	return document(out)
}
