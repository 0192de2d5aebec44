package line

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Counts is what went through the sockets of one server or of several.
type Counts struct {
	Wire     atomic.Int64 // bytes written: headers, framing and TLS records included
	Read     atomic.Int64 // bytes read
	Accepted atomic.Int64 // connections
	Open     atomic.Int64 // connections that are open now
}

// Options are how Listen starts a server.
type Options struct {
	Listen  string // host:port; "" is a free port of loopback
	Handler http.Handler
	TLS     *tls.Config // nil speaks plain HTTP/1.1
	Counts  *Counts     // what to add to; nil counts nowhere
	Buffer  int         // bytes that the kernel may keep of what was written to one connection; 0 leaves it to the kernel
}

// A Server is one listening port that can be closed and opened again.
type Server struct {
	URL  string // http://host:port or https://host:port, no slash at the end
	Host string // host:port

	options Options

	mu   sync.Mutex // guards what follows
	http *http.Server
	done chan struct{} // closed when http has stopped serving
	held int           // keeps the port from the first Up until Close; 0 outside
}

// Listen starts a server. Its Close gives the port back.
func Listen(o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Counts == nil {
		o.Counts = new(Counts)
	}
	s := &Server{Host: o.Listen, options: o}
	if err := s.Up(); err != nil {
		return nil, err
	}
	s.URL = "http://" + s.Host
	if o.TLS != nil {
		s.URL = "https://" + s.Host
	}
	return s, nil
}

// Up ends Down: the server listens on its port again.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	listen := listenAgain
	if s.held == 0 {
		listen = listenAlone
	}
	l, err := listen(s.Host)
	if err != nil {
		return err
	}
	if s.held == 0 { // the first time, before anybody reads Host
		s.Host = l.Addr().String()
		if s.held, err = hold(s.Host); err != nil {
			l.Close()
			return err
		}
	}
	srv := &http.Server{
		Handler:  s.options.Handler,
		ErrorLog: log.New(io.Discard, "", 0), // aborted handlers and refused handshakes are what these servers are about
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
		if s.options.TLS != nil {
			srv.TLSConfig = s.options.TLS.Clone()
			srv.ServeTLS(listener{l, s.options}, "", "")
			return
		}
		srv.Serve(listener{l, s.options})
	}()
	return nil
}

// Down ends all connections and keeps the port: whoever connects is refused, and
// nobody else gets it.
func (s *Server) Down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		return nil
	}
	s.http.Close()
	<-s.done
	s.http = nil
	return nil
}

// Close ends the server and gives its port back. Handlers may still run: their
// connections are closed, and their contexts end.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.http != nil {
		err = s.http.Close()
		<-s.done
		s.http = nil
	}
	s.release()
	return err
}

// release is called with mu held.
func (s *Server) release() {
	if s.held > 0 {
		unix.Close(s.held)
	}
	s.held = 0
}

// connKey finds the Conn of a request in its context.
type connKey struct{}

// ConnOf returns the connection that a request came on.
func ConnOf(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// A Conn counts what goes through a connection, and is where the rates of one
// connection are kept.
type Conn struct {
	net.Conn
	counts *Counts
	shaped atomic.Pointer[Pacer] // a Line's rate
	paced  atomic.Pointer[Pacer] // the rate that the server itself asked for
	closed atomic.Bool
}

// Pacer returns the connection's own pacer of this rate, in bytes a second.
func (c *Conn) Pacer(rate int64) *Pacer { return at(&c.paced, rate) }

// at returns the pacer kept in p if it has this rate, else a new one.
func at(p *atomic.Pointer[Pacer], rate int64) *Pacer {
	for {
		old := p.Load()
		if old != nil && old.Rate == rate {
			return old
		}
		if fresh := (&Pacer{Rate: rate}); p.CompareAndSwap(old, fresh) {
			return fresh
		}
	}
}

// Reset closes the connection with RST, which also throws away what is under way.
func (c *Conn) Reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Conn.Close()
}

func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.counts.Read.Add(int64(n))
	return n, err
}

func (c *Conn) Write(p []byte) (int, error) {
	c.counts.Wire.Add(int64(len(p))) // before: who has the bytes may look at the count
	n, err := c.Conn.Write(p)
	c.counts.Wire.Add(int64(n - len(p)))
	return n, err
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if !c.closed.Swap(true) {
		c.counts.Open.Add(-1)
	}
	return c.Conn.Close()
}

type listener struct {
	net.Listener
	options Options
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok && l.options.Buffer > 0 {
		t.SetWriteBuffer(l.options.Buffer)
	}
	l.options.Counts.Accepted.Add(1)
	l.options.Counts.Open.Add(1)
	return &Conn{Conn: c, counts: l.options.Counts}, nil
}
