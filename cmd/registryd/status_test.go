package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestStatusShowsUploads that somebody is sending, or broke off.
func TestStatusShowsUploads(t *testing.T) {
	s := running(t, "store:", "push: loopback\nstore:")
	status := func() (o overview, shown string) {
		t.Helper()
		check(t, json.Unmarshal(s.onAdmin("/api/v1/status"), &o))
		var text bytes.Buffer
		o.show(&text)
		return o, text.String()
	}
	if _, shown := status(); strings.Contains(shown, "pushes") {
		t.Errorf("without any:\n%s", shown)
	}
	for range 2 {
		at := s.send("POST", "/v2/team/app/blobs/uploads/", "", nil, 202).Header.Get("Location")
		s.send("PATCH", at, "application/octet-stream", bytes.Repeat([]byte("x"), 1<<20), 202)
	}
	o, shown := status()
	if o.Cache.Uploads != 2 || o.Cache.Uploaded < 2<<20 {
		t.Errorf("%d uploads, %d bytes", o.Cache.Uploads, o.Cache.Uploaded)
	}
	if !strings.Contains(shown, "pushes\t2 blobs are on their way or were broken off, 2MiB of them here") {
		t.Errorf("of two there is shown:\n%s", shown)
	}
}
