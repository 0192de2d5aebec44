package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// alive returns the question that the watchdog asks: GET /v2/ on the registry's
// own listener, over a connection of its own, as docker begins each pull. It is
// answered from memory, so bucket, upstreams and disk have no part in it.
func alive(l net.Listener) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // the accept loop is part of the question
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, l.Addr().Network(), l.Addr().String())
		},
	}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("/v2/ answered %s", resp.Status)
		}
		return nil
	}
}
