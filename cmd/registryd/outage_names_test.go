package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// domains is the domain name system of these tests: all of the process's, since
// there is one resolver. What it does not know does not exist.
var domains = nameServer{known: map[string]domain{}}

// It is in place before anything runs: net.DefaultResolver is read without a lock.
func init() { net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: domains.dial} }

// A domain is how the name server answers for a name.
type domain int

const (
	noName    domain = iota // it does not exist
	here                    // it is 127.0.0.1
	noServer                // the name server says nothing
	badServer               // the name server says that it has failed
)

// A nameServer answers for names below test.
type nameServer struct {
	mu    sync.Mutex // guards known
	known map[string]domain
}

func (s *nameServer) set(name string, d domain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[name+"."] = d
}

func (s *nameServer) of(name string) domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[strings.ToLower(name)]
}

// dial returns a connection to the name server, which ends when the resolver
// closes it.
func (s *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for s.exchange(server) == nil {
		}
	}()
	return client, nil
}

// exchange answers one query, framed as over TCP: a pipe is no datagram socket.
func (s *nameServer) exchange(conn net.Conn) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return io.ErrUnexpectedEOF
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	switch s.of(q.Name.String()) {
	case noServer:
		return nil
	case badServer:
		m.RCode = dnsmessage.RCodeServerFailure
	case noName:
		m.RCode = dnsmessage.RCodeNameError
	case here:
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
	}
	answer, err := m.AppendPack(make([]byte, 2))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
	_, err = conn.Write(answer)
	return err
}
