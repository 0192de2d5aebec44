package hubtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server is one listening port that can be closed and opened again.
type server struct {
	hub       *Hub
	handler   http.Handler
	url, host string

	mu   sync.Mutex // guards what follows
	http *http.Server
	done chan struct{} // closed when http has stopped serving
	held int           // keeps the port while the server is down; 0 while it is up
}

// serve starts a server on a free loopback port.
func (h *Hub) serve(handler http.Handler) *server {
	h.t.Helper()
	s := &server{hub: h, handler: handler, host: "127.0.0.1:0"}
	if err := s.start(); err != nil {
		h.t.Fatalf("hubtest: %v", err)
	}
	s.url = "http://" + s.host
	if h.ca != nil {
		s.url = "https://" + s.host
	}
	return s
}

// connKey finds the conn of a request in its context.
type connKey struct{}

// conn counts what goes through a connection, and is where the rate of one
// connection is kept.
type conn struct {
	net.Conn
	log    *counters
	pace   atomic.Pointer[pacer]
	closed atomic.Bool
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.log.wire.Add(int64(n))
	return n, err
}

func (c *conn) Close() error {
	if !c.closed.Swap(true) {
		c.log.open.Add(-1)
	}
	return c.Conn.Close()
}

type listener struct {
	net.Listener
	log *counters
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.log.accepted.Add(1)
	l.log.open.Add(1)
	return &conn{Conn: c, log: l.log}, nil
}

func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	s.release()
	l, err := net.Listen("tcp", s.host)
	if err != nil {
		return err
	}
	s.host = l.Addr().String()
	srv := &http.Server{
		Handler:  s.handler,
		ErrorLog: log.New(io.Discard, "", 0), // aborted handlers and refused handshakes are what tests are about
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn()
			}
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	done := make(chan struct{})
	s.http, s.done = srv, done
	go func() {
		defer close(done)
		if s.hub.ca != nil {
			srv.TLSConfig = s.hub.ca.config.Clone()
			srv.ServeTLS(listener{l, &s.hub.log}, "", "")
			return
		}
		srv.Serve(listener{l, &s.hub.log})
	}()
	return nil
}

// stop ends all connections and keeps the port, so that nobody else answers there.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return nil
	}
	s.http.Close()
	<-s.done
	s.http = nil
	fd, err := hold(s.host)
	s.held = fd
	return err
}

// close ends the server and gives its port back.
func (s *server) close() {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
}

// release is called with mu held.
func (s *server) release() {
	if s.held > 0 {
		unix.Close(s.held)
	}
	s.held = 0
}

// An authority is a CA and one certificate that it signed, for 127.0.0.1, ::1 and
// localhost.
type authority struct {
	pem    []byte
	config *tls.Config
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatalf("hubtest: making certificates: %v", err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hubtest CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "hubtest"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(err)
	return &authority{
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		config: &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: key}},
			NextProtos:   []string{"h2", "http/1.1"},
		},
	}
}
