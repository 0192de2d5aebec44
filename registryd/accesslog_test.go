package registryd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccessLogHasALineForEachRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	log, closeLog, err := OpenAccessLog(path)
	if err != nil {
		t.Fatal(err)
	}
	h := newTester(t, HandlerOptions{Access: log})
	d, _ := h.file(pattern(70_000))
	h.get(blobPath(d)+"?ns=docker.io", "Authorization: Basic c2VjcmV0", "User-Agent: evil\" agent=forged "+strings.Repeat("x", 5000))
	h.get(blobPath(d), "Range: bytes=5-9")
	h.get("/v2/a/b/manifests/t%0aforged")
	h.client.CloseIdleConnections()
	h.settled(0, 0)
	closeLog()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "c2VjcmV0") {
		t.Error("credentials are in the log")
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines:\n%s", len(lines), raw)
	}
	var got struct {
		Method, Path, Ns, Digest, Source, Range, Agent, Error string
		Status, Bytes, Duration                               int
	}
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != "GET" || got.Ns != "docker.io" || got.Digest != d.String() || got.Source != "disk" || got.Status != 200 || got.Bytes != 70_000 || got.Duration <= 0 || len(got.Agent) != maxLogged {
		t.Errorf("%+v", got)
	}
	json.Unmarshal([]byte(lines[1]), &got)
	if got.Status != 206 || got.Bytes != 5 || got.Range != "bytes=5-9" {
		t.Errorf("%+v", got)
	}
	json.Unmarshal([]byte(lines[2]), &got)
	if got.Status != 400 || got.Path != "/v2/a/b/manifests/t\nforged" || got.Error == "" {
		t.Errorf("%+v", got)
	}
}
