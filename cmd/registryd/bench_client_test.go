package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// connections is how many clients a benchmark of warm content has.
const connections = 32

// A flood asks for one path again and again over a number of connections, with as
// little work as reading the answers takes: the client runs on the same machine,
// and what it costs makes all servers look more alike.
type flood struct {
	path     string
	requests int   // in all
	size     int64 // of the body, in bytes
}

// run sends the requests and reads the answers, each of which must be a 200 with a
// body of the right size.
func (f flood) run(address string) error {
	var left atomic.Int64
	left.Store(int64(f.requests))
	var all errgroup.Group
	for range connections {
		all.Go(func() error { return f.connection(address, &left) })
	}
	return all.Wait()
}

func (f flood) connection(address string, left *atomic.Int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	request := []byte("GET " + f.path + " HTTP/1.1\r\nHost: registry\r\n\r\n")
	buf := make([]byte, 128<<10)
	for left.Add(-1) >= 0 {
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := f.answer(c, buf); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

// answer reads one answer. Its header ends within buf.
func (f flood) answer(c net.Conn, buf []byte) error {
	got, head := 0, -1
	for head < 0 {
		n, err := c.Read(buf[got:])
		if err != nil {
			return err
		}
		got += n
		head = bytes.Index(buf[:got], []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) || !bytes.Contains(buf[:head], []byte("\nContent-Length: "+strconv.FormatInt(f.size, 10)+"\r")) {
		return fmt.Errorf("not a body of %d bytes: %q", f.size, buf[:head])
	}
	for rest := f.size - int64(got-head-4); rest > 0; {
		n, err := c.Read(buf[:min(rest, int64(len(buf)))])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		rest -= int64(n)
	}
	return nil
}
