package registryd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// headerLimit bounds how long the headers of a request may take to arrive: a
	// connection that opens a request and does not end it costs 20 KiB for so
	// long. Honest clients send them in one packet.
	headerLimit = 10 * time.Second

	// idleLimit is how long a connection may wait for its next request. containerd
	// and BuildKit reuse theirs within a pull; longer would only serve the next
	// pull's first request, which saves a loopback connect.
	idleLimit = 90 * time.Second

	// maxHeader bounds the headers of a request in bytes. The largest honest ones
	// carry a token of some KiB, which nobody here needs.
	maxHeader = 16 << 10
)

// A Server carries a handler on any number of listeners, TCP, unix, or inherited,
// with bounds on everything that a client can make it wait for or hold.
type Server struct {
	http  http.Server
	conns *connections
}

// NewServer returns a server for h that says what goes wrong to log.
func NewServer(h http.Handler, log *slog.Logger) *Server {
	limit := connectionLimit()
	s := &Server{conns: newConnections(limit)}
	s.http = http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerLimit,
		// Set anew for each request, and by a response before each step of a
		// body: the bound is on a client that takes nothing, not on a body.
		WriteTimeout:   StallLimit,
		IdleTimeout:    idleLimit,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       serverLog(log),
		ConnState:      s.conns.changed,
		ConnContext:    withConn,
		// OPTIONS * is a method that we do not have, like any other.
		DisableGeneralOptionsHandler: true,
	}
	s.conns.turnedAway = func() {
		s.http.ErrorLog.Printf("more than %d connections at once: clients are turned away before they are heard; have fewer of them pull at once, or, below %d, raise the limit on open files (LimitNOFILE=, ulimit -n) to %d",
			limit, maxConnections, 2*maxConnections+spareFiles)
	}
	return s
}

// Serve accepts connections from l until Shutdown, and closes it. It may be
// called for several listeners. The bounds in time are kept within sweepEvery. After Shutdown it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(tracked{l, s.conns}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listeners and the connections without a request at once,
// then waits for the answers that are under way until ctx ends, and breaks off
// those that are left then. When it returns there is no connection, and no handler
// but one that did not end within a second of losing its client, which is an
// error.
func (s *Server) Shutdown(ctx context.Context) error {
	empty := s.conns.drain()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case <-empty:
		return err
	case <-grace.C:
		return errors.Join(err, errors.New("a request did not end with its connection"))
	}
}
