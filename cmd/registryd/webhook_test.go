package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"hostlocal/manifest"
)

// send makes a request that changes something, and demands the status.
func (s *subject) send(method, path, mediaType string, body []byte, want int) *http.Response {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.address+path, bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	var said bytes.Buffer
	said.ReadFrom(resp.Body)
	if resp.StatusCode != want {
		s.Fatalf("%s %s: %s\n%s", method, path, resp.Status, &said)
	}
	return resp
}

// push pushes an image of one small layer with these tags, and returns its digest.
func (s *subject) push(repo string, tags ...string) manifest.Digest {
	s.Helper()
	var parts [2]manifest.Digest
	for i, body := range [][]byte{[]byte("{}"), []byte("a layer of " + repo)} {
		parts[i] = manifest.DigestOf(body)
		s.send("POST", "/v2/"+repo+"/blobs/uploads/?digest="+parts[i].String(), "application/octet-stream", body, 201)
	}
	image := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		manifest.OCIManifest, parts[0], parts[1], len("a layer of "+repo))
	for _, tag := range tags {
		s.send("PUT", "/v2/"+repo+"/manifests/"+tag, manifest.OCIManifest, image, 201)
	}
	return manifest.DigestOf(image)
}

// TestAPushADeleteAndAPullAreTold to a program that listens.
func TestAPushADeleteAndAPullAreTold(t *testing.T) {
	type event struct {
		Action string
		Target struct{ Repository, Tag, Digest string }
	}
	told := make(chan event, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var envelope struct{ Events []event }
		if err := json.NewDecoder(r.Body).Decode(&envelope); err != nil {
			t.Error(err)
		}
		for _, e := range envelope.Events {
			told <- e
		}
	}))
	defer receiver.Close()
	s := running(t, "store:", fmt.Sprintf("push: loopback\nwebhooks: [{name: ci, url: %q, actions: [push, delete, pull]}]\nstore:", receiver.URL))
	d := s.push("team/app", "v1", "v2", "v3")
	s.ask("GET", "/v2/team/app/manifests/v1")
	s.send("DELETE", "/v2/team/app/manifests/v1", "", nil, 202)
	s.send("DELETE", "/v2/team/app/manifests/"+d.String(), "", nil, 202)
	for _, want := range []string{
		"push team/app:v1 " + d.String(), "push team/app:v2 " + d.String(), "push team/app:v3 " + d.String(), "pull team/app:v1 " + d.String(), "delete team/app:v1 ",
		"delete team/app: " + d.String(), "delete team/app:v2 ", "delete team/app:v3 ",
	} {
		select {
		case e := <-told:
			if got := fmt.Sprintf("%s %s:%s %s", e.Action, e.Target.Repository, e.Target.Tag, e.Target.Digest); got != want {
				t.Errorf("%s; want %s", got, want)
			}
		case <-time.After(startLimit):
			t.Fatalf("nobody was told: %s", want)
		}
	}
}
