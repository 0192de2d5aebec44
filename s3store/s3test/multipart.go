package s3test

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

type upload struct {
	key   string
	parts map[int]part
}

// A part's ETag is the MD5 of its bytes, as at S3: what resumes an upload relies on it.
type part struct {
	content
	etag string
}

func (s *Server) create(key string) *reply {
	var id string
	s.locked(func() {
		s.serial++
		id = fmt.Sprintf("upload-%d", s.serial)
		s.uploads[id] = &upload{key: key, parts: map[int]part{}}
	})
	return document(struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Bucket: Bucket, Key: key, UploadID: id})
}

func (s *Server) part(r *http.Request, body []byte, q Quirks) *reply {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > 10_000 {
		return refuse(http.StatusBadRequest, "InvalidArgument")
	}
	sum := md5.Sum(body)
	if q.OpaqueETags {
		rand.Read(sum[:])
	}
	return s.keepPart(r, number, part{whole(body), hex.EncodeToString(sum[:])})
}

// copyPart makes a part of another object's bytes.
func (s *Server) copyPart(r *http.Request, q Quirks) *reply {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	path, err2 := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if err != nil || number < 1 || number > 10_000 || err2 != nil || bucket != Bucket {
		return refuse(http.StatusBadRequest, "InvalidArgument")
	}
	var o *object
	s.locked(func() { o = s.objects[key] })
	if o == nil {
		return refuse(http.StatusNotFound, "NoSuchKey")
	}
	if want := r.Header.Get("X-Amz-Copy-Source-If-Match"); want != "" && strings.Trim(want, `"`) != o.etag {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	first, last, ok := parseRange(r.Header.Get("X-Amz-Copy-Source-Range"), o.size)
	if _, end, _ := strings.Cut(r.Header.Get("X-Amz-Copy-Source-Range"), "-"); !ok || end != strconv.FormatInt(last, 10) {
		return refuse(http.StatusBadRequest, "InvalidArgument")
	}
	c := o.slice(first, last-first+1)
	var sum [16]byte
	if q.OpaqueETags || c.isZeros() {
		rand.Read(sum[:])
	} else {
		sum = md5.Sum(c.block)
	}
	tag := hex.EncodeToString(sum[:])
	if rep := s.keepPart(r, number, part{c, tag}); rep.status != http.StatusOK {
		return rep
	}
	return document(struct {
		XMLName xml.Name `xml:"CopyPartResult"`
		ETag    string
	}{ETag: `"` + tag + `"`})
}

func (s *Server) keepPart(r *http.Request, number int, c part) *reply {
	rep := answer(http.StatusOK)
	rep.header.Set("ETag", `"`+c.etag+`"`)
	s.locked(func() {
		up := s.uploads[r.URL.Query().Get("uploadId")]
		if up == nil || up.key != Key(r) {
			rep = refuse(http.StatusNotFound, "NoSuchUpload")
			return
		}
		up.parts[number] = c
	})
	return rep
}

func (s *Server) abort(r *http.Request) *reply {
	rep := answer(http.StatusNoContent)
	s.locked(func() {
		id := r.URL.Query().Get("uploadId")
		if s.uploads[id] == nil {
			rep = refuse(http.StatusNotFound, "NoSuchUpload")
		}
		delete(s.uploads, id)
	})
	return rep
}

// complete joins the parts. The copying is done under the lock, which makes it
// atomic and is memory speed.
func (s *Server) complete(key string, r *http.Request, q Quirks) *reply {
	var list struct {
		Parts []struct {
			PartNumber int
			ETag       string
		} `xml:"Part"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || xml.Unmarshal(body, &list) != nil || len(list.Parts) == 0 {
		return refuse(http.StatusBadRequest, "MalformedXML")
	}
	if q.CompleteErrorIn200 {
		rep := refuse(http.StatusOK, "InternalError")
		return rep
	}
	least := q.MinPart
	if least == 0 {
		least = 5 << 20
	}
	rep := answer(http.StatusOK)
	s.locked(func() {
		id := r.URL.Query().Get("uploadId")
		up := s.uploads[id]
		if up == nil || up.key != key {
			rep = refuse(http.StatusNotFound, "NoSuchUpload")
			return
		}
		var data content
		last := 0
		for i, p := range list.Parts {
			c, ok := up.parts[p.PartNumber]
			switch {
			case p.PartNumber <= last:
				rep = refuse(http.StatusBadRequest, "InvalidPartOrder")
				return
			case !ok || strings.Trim(p.ETag, `"`) != c.etag:
				rep = refuse(http.StatusBadRequest, "InvalidPart")
				return
			case i < len(list.Parts)-1 && c.size < least:
				rep = refuse(http.StatusBadRequest, "EntityTooSmall")
				return
			}
			last = p.PartNumber
			data = data.and(c.content)
		}
		if bad := s.check(key, r, q); bad != nil {
			rep = bad
			return
		}
		etag := fmt.Sprintf("%s-%d", data.tag(), len(list.Parts))
		s.store(key, data, etag, "")
		delete(s.uploads, id)
		rep = document(struct {
			XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
			Bucket  string
			Key     string
			ETag    string
		}{Bucket: Bucket, Key: key, ETag: `"` + etag + `"`})
	})
	return rep
}
