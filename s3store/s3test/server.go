// Package s3test is an S3 for tests: one bucket in memory behind net/http on
// loopback, with faults at the wire, quirks of real stores, and counts of all that
// was asked. Both SDKs speak to it. It checks conditions, ranges, payload hashes
// and part sizes as S3 does; signatures it does not check, the real servers of the
// contract suite do.
//
//	s := s3test.New(t)
//	s.Put("blob", data)
//	b, _ := s3store.OpenBucket(ctx, s.Config("aws"))
//	s.Fault(s3test.Times(2, "get", s3test.Fault{Status: 503}))
//	...
//	if s.Count("get") != 3 { ... }
package s3test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/s3store"
)

// Bucket is the name of the one bucket.
const Bucket = "images"

// AccessKey is the only access key that is let in. The secret does not matter.
const AccessKey = "test"

// A Server is the fake. Its methods may be called at any time, from any goroutine.
type Server struct {
	URL string // http://127.0.0.1:port

	closing chan struct{} // closed when stalls must end
	http    *httptest.Server

	mu      sync.Mutex // guards all below; no I/O under it
	objects map[string]*object
	uploads map[string]*upload
	serial  int
	quirks  Quirks
	model   Model
	skew    time.Duration
	fault   func(*http.Request) *Fault
	counts  map[string]int
	bytes   map[string]int64
	due     time.Time // when all that was let in so far may have come, at the model's Inbound
	active  int
	peak    int
	conns   int
	open    int
}

// Quirks are ways in which stores differ from S3. The zero value is S3.
type Quirks struct {
	IgnoreIfNoneMatch  bool  // writes overwrite (GCS, gofakes3's Complete)
	IgnoreIfMatch      bool  // replacements are not conditional
	NotAtomic          bool  // conditions are looked at before the body is read, so racing writers all win
	ReadOnly           bool  // writes are 403
	NoList             bool  // no list permission: misses and listings are 403
	RefuseCredentials  bool  // everything is 403
	MinPart            int64 // least size of a part but the last, in bytes; 0 means S3's 5 MiB, -1 none
	IgnoreRange        bool  // a range is answered with 200 and everything
	OpaqueETags        bool  // a part's ETag says nothing of its bytes (encryption with KMS)
	NoMultipart        bool  // 501 for uploads in parts
	NoCopy             bool  // 501 for copies
	CompleteErrorIn200 bool  // Complete answers 200 and an InternalError in its body, as S3 may
}

// Model is how fast the server is. The zero value is as fast as it can.
type Model struct {
	FirstByte time.Duration // from the request to the header
	Rate      int64         // bytes a second of body on one connection, either way; 0 is unlimited
	Inbound   int64         // bytes a second of all requests' bodies together; 0 is unlimited
	// Sink has parts thrown away once they are read: what was made of them has its
	// size, and zeros for bytes. So a gigabyte is sent over and over again in no
	// memory, and the server's own work is little beside the sender's.
	Sink bool
}

// S3Model is S3 as it was measured from one host in its region.
var S3Model = Model{FirstByte: 30 * time.Millisecond, Rate: 85 << 20}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{closing: make(chan struct{}), objects: map[string]*object{}, uploads: map[string]*upload{},
		counts: map[string]int{}, bytes: map[string]int64{}}
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ConnState = s.connState
	s.http.Start()
	s.URL = s.http.URL
	t.Cleanup(s.close)
	return s
}

func (s *Server) close() {
	close(s.closing)
	s.http.CloseClientConnections()
	s.http.Close()
}

// Config is what OpenBucket needs to reach the server with the SDK "aws" or "minio".
func (s *Server) Config(client string) s3store.Config {
	return s3store.Config{URL: "s3://" + Bucket, Endpoint: s.URL, Region: "us-east-1", Client: client,
		PathStyle: true, AccessKey: AccessKey, SecretKey: "secret"}
}

// Down ends all connections and refuses new requests by closing theirs, until Up.
func (s *Server) Down() {
	s.Fault(func(*http.Request) *Fault { return &Fault{Drop: true} })
	s.http.CloseClientConnections()
}

// Up ends Down, and any other fault.
func (s *Server) Up() { s.Fault(nil) }

// SetQuirks replaces the quirks.
func (s *Server) SetQuirks(q Quirks) { s.locked(func() { s.quirks = q }) }

// SetModel replaces the model.
func (s *Server) SetModel(m Model) { s.locked(func() { s.model = m }) }

// SetClock sets how far the server's clock is ahead of ours.
func (s *Server) SetClock(ahead time.Duration) { s.locked(func() { s.skew = ahead }) }

// Count returns how many requests of the operation came, faulty ones included:
// "stat", "get", "put", "delete", "list", "create_multipart", "upload_part",
// "copy_part", "complete_multipart", "abort_multipart"; "" means all.
func (s *Server) Count(op string) (n int) {
	s.locked(func() {
		for o, c := range s.counts {
			if op == "" || o == op {
				n += c
			}
		}
	})
	return n
}

// Sent returns how many bytes of the object's content went out.
func (s *Server) Sent(key string) (n int64) {
	s.locked(func() { n = s.bytes[key] })
	return n
}

// Peak returns the largest number of requests that were in work at one time.
func (s *Server) Peak() (n int) {
	s.locked(func() { n = s.peak })
	return n
}

// Connections returns how many connections were ever accepted.
func (s *Server) Connections() (n int) {
	s.locked(func() { n = s.conns })
	return n
}

// Open returns how many connections are open now.
func (s *Server) Open() (n int) {
	s.locked(func() { n = s.open })
	return n
}

// Uploads returns how many uploads are neither completed nor aborted.
func (s *Server) Uploads() (n int) {
	s.locked(func() { n = len(s.uploads) })
	return n
}

// LooseParts returns how many parts there are of such uploads, of keys that begin
// with prefix: what costs money until somebody removes it.
func (s *Server) LooseParts(prefix string) (n int) {
	s.locked(func() {
		for _, up := range s.uploads {
			if strings.HasPrefix(up.key, prefix) {
				n += len(up.parts)
			}
		}
	})
	return n
}

// ForgetUploads removes them, as a bucket's own rule does after some days.
func (s *Server) ForgetUploads() { s.locked(func() { clear(s.uploads) }) }

// ResetCounts sets all counts to zero.
func (s *Server) ResetCounts() {
	s.locked(func() {
		clear(s.counts)
		clear(s.bytes)
		s.peak, s.conns = s.active, 0
	})
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.locked(func() { s.conns++; s.open++ })
	case http.StateClosed, http.StateHijacked:
		s.locked(func() { s.open-- })
	}
}

func (s *Server) now() time.Time {
	return time.Now().Add(s.skew).UTC()
}
