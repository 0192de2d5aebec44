package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// errNotRunning is wrapped by errors that say that no daemon listens.
var errNotRunning = errors.New("no daemon answers")

// clientLimit bounds a whole exchange with the admin API. The slowest answer is a
// refresh of an upstream that stalls, which the daemon ends within 10 s.
const clientLimit = 15 * time.Second

// maxReply bounds an answer in bytes: a status with hundreds of upstreams and fills.
const maxReply = 8 << 20

// A client asks the admin API of the daemon that runs with this configuration.
type client struct {
	address string // as configured
	http    *http.Client
}

// newClient returns a client of the daemon whose first admin listener is address.
func newClient(address string) *client {
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, target = "unix", path
	}
	return &client{address: address, http: &http.Client{
		Timeout: clientLimit,
		Transport: &http.Transport{ // no proxy: this is this host's own listener
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, network, target)
				if err != nil {
					return nil, fmt.Errorf("%w at %s (%w); start one with registryd serve, or name its configuration with --config", errNotRunning, address, err)
				}
				return conn, nil
			},
		},
	}}
}

// get asks for path with the query and reads the answer into v.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// post sends in as JSON and reads the answer into v.
func (c *client) post(ctx context.Context, path string, in, v any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, bytes.NewReader(body), v)
}

func (c *client) do(ctx context.Context, method, path string, body io.Reader, v any) error {
	// The name stands only in the Host header: where to is the dialer's to know.
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL in it says nothing
		}
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct{ Error string }
		if json.Unmarshal(reply, &refusal) == nil && refusal.Error != "" {
			return errors.New(refusal.Error)
		}
		return fmt.Errorf("what listens at %s answered %s; is it registryd's admin listener?", c.address, resp.Status)
	}
	if len(reply) > maxReply {
		return fmt.Errorf("the daemon's answer is longer than %d bytes", maxReply)
	}
	if err := json.Unmarshal(reply, v); err != nil {
		return fmt.Errorf("what listens at %s is not registryd's admin API of this version: %w", c.address, err)
	}
	return nil
}
