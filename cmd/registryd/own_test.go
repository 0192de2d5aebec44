package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// Also a repository whose first component looks like a host is the bucket's own
// where a pattern says so: it is served, and listed. 0.1 s.
func TestOwnRepositoryMayLookLikeAHost(t *testing.T) {
	t.Parallel()
	h := newHost(t, onS3("minio"))
	h.stop()
	text, err := os.ReadFile(h.cfg)
	check(t, err)
	check(t, os.WriteFile(h.cfg, append([]byte("own: [my.team/*]\n"), text...), 0o600))
	s := h.bucket.(s3Bucket).Server
	_, body := ownImage(s, "my.team/app", "v1", 1, 300)
	ownImage(s, "quay.io/owner/app", "v1", 2, 300) // of an upstream that is not configured any more
	h.start()
	check(t, fetch(h.url+"/v2/my.team/app/manifests/v1", int64(len(body))))
	resp, err := http.Get(h.url + "/v2/_catalog")
	check(t, err)
	defer resp.Body.Close()
	list, err := io.ReadAll(resp.Body)
	check(t, err)
	if list := string(list); !strings.Contains(list, `"my.team/app"`) || strings.Contains(list, "quay.io") {
		t.Errorf("the catalog says %s", list)
	}
}
