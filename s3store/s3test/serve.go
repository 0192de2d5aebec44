package s3test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Op names what a request wants by the method of s3store.Bucket that sends it, in
// snake case; "" for what no driver sends.
func Op(r *http.Request) string {
	q := r.URL.Query()
	_, key := split(r)
	switch {
	case key == "" && r.Method == http.MethodGet:
		return "list"
	case key == "":
		return ""
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "create_multipart"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "complete_multipart"
	case r.Method == http.MethodPut && q.Has("uploadId") && r.Header.Get("X-Amz-Copy-Source") != "":
		return "copy_part"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "upload_part"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort_multipart"
	}
	return map[string]string{http.MethodHead: "stat", http.MethodGet: "get", http.MethodPut: "put", http.MethodDelete: "delete"}[r.Method]
}

// Key is the object that a request is about.
func Key(r *http.Request) string {
	_, key := split(r)
	return key
}

func split(r *http.Request) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return bucket, key
}

// A reply is an answer before it is sent: the work is done first, so that a lost
// answer is one to a request that took effect.
type reply struct {
	status int
	header http.Header
	body   content
	key    string // whose bytes the body is, for Sent
	over   bool   // its request does not count as one in work any more
}

func answer(status int) *reply { return &reply{status: status, header: http.Header{}} }

// refuse is an error as S3 words it.
func refuse(status int, code string) *reply {
	r := answer(status)
	r.header.Set("Content-Type", "application/xml")
	r.body = whole([]byte(xml.Header + "<Error><Code>" + code + "</Code><Message>" + code + "</Message></Error>"))
	return r
}

// document is a success with an XML body.
func document(v any) *reply {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	r := answer(http.StatusOK)
	r.header.Set("Content-Type", "application/xml")
	r.body = whole(append([]byte(xml.Header), b...))
	return r
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := Op(r)
	var choose func(*http.Request) *Fault
	var model Model
	var quirks Quirks
	s.locked(func() {
		s.counts[op]++
		s.active++
		s.peak = max(s.peak, s.active)
		choose, model, quirks = s.fault, s.model, s.quirks
	})
	rep := &reply{}
	defer s.locked(func() {
		if !rep.over {
			s.active--
		}
	})
	var f Fault
	if choose != nil {
		if chosen := choose(r); chosen != nil {
			f = *chosen
		}
	}
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	if !s.wait(r, model.FirstByte+f.Latency) {
		return
	}
	if f.StallBefore {
		s.stall(r)
	}
	rep = s.work(op, r, quirks, model, &f)
	s.send(w, r, rep, &f, model)
}

// wait sleeps d unless the client or the server goes first.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

// work does what was asked, or refuses.
func (s *Server) work(op string, r *http.Request, q Quirks, model Model, f *Fault) *reply {
	bucket, key := split(r)
	switch {
	case f.Status != 0:
		io.Copy(io.Discard, r.Body)
		return refuse(f.Status, f.code())
	case q.RefuseCredentials || !strings.Contains(r.Header.Get("Authorization"), "Credential="+AccessKey+"/"):
		return refuse(http.StatusForbidden, "InvalidAccessKeyId")
	case bucket != Bucket:
		return refuse(http.StatusNotFound, "NoSuchBucket")
	case op == "list" && q.NoList:
		return refuse(http.StatusForbidden, "AccessDenied")
	case op == "list":
		return s.list(r)
	case op == "stat" || op == "get":
		return s.get(key, r, q)
	case q.ReadOnly:
		return refuse(http.StatusForbidden, "AccessDenied")
	case op == "delete":
		s.Delete(key)
		return answer(http.StatusNoContent)
	case q.NoMultipart && op != "put", op == "":
		return refuse(http.StatusNotImplemented, "NotImplemented")
	case op == "create_multipart":
		return s.create(key)
	case op == "abort_multipart":
		return s.abort(r)
	case op == "copy_part" && q.NoCopy:
		return refuse(http.StatusNotImplemented, "NotImplemented")
	case op == "copy_part":
		return s.copyPart(r, q)
	case op == "complete_multipart":
		return s.complete(key, r, q)
	}
	early := s.condition(key, r, q)
	if q.NotAtomic && early != nil {
		return early
	}
	s.pace(r, model)
	if model.Sink && op == "upload_part" {
		return s.sink(r)
	}
	body, bad := receive(r)
	switch {
	case bad != nil:
		return bad
	case op == "upload_part":
		return s.part(r, body, q)
	}
	return s.put(key, r, q, body)
}

// receive reads a request's body and checks it against what the signature says of
// it. Bodies signed in chunks are refused: no driver should send one.
func receive(r *http.Request) ([]byte, *reply) {
	if r.ContentLength < 0 {
		return nil, refuse(http.StatusLengthRequired, "MissingContentLength")
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return nil, refuse(http.StatusBadRequest, "IncompleteBody")
	}
	switch hash := r.Header.Get("X-Amz-Content-Sha256"); {
	case hash == "UNSIGNED-PAYLOAD":
	case len(hash) == 64:
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != hash {
			return nil, refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch")
		}
	default:
		return nil, refuse(http.StatusNotImplemented, "NotImplemented")
	}
	return body, nil
}

// send sends the answer, damaged as the fault says and as fast as the model.
func (s *Server) send(w http.ResponseWriter, r *http.Request, rep *reply, f *Fault, model Model) {
	if f.StallHeader {
		s.stall(r)
	}
	if f.Lose {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for k, v := range rep.header {
		h[k] = v
	}
	var now time.Time
	s.locked(func() { now = s.now() })
	h.Set("Date", now.Format(http.TimeFormat))
	if f.RetryAfter != "" {
		h.Set("Retry-After", f.RetryAfter)
	}
	if r.Method == http.MethodHead || rep.status == http.StatusNoContent {
		if rep.status >= 300 {
			h.Set("Content-Length", "0")
		}
		w.WriteHeader(rep.status)
		return
	}
	for k, v := range f.Header {
		h[k] = v
	}
	if f.Unframed {
		s.sendUnframed(w, r, rep, f, model)
		return
	}
	if f.Header.Get("Content-Length") == "" {
		h.Set("Content-Length", strconv.FormatInt(rep.body.size, 10))
	}
	w.WriteHeader(rep.status)
	s.sendBody(w, r, rep, f, model)
}
