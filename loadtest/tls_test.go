package loadtest

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// The roots that a process trusts are read once: no other test of this package may
// speak TLS before.
func TestPullsOverTLS(t *testing.T) {
	h := newHub(t, 1<<20, 300)
	s := httptest.NewTLSServer(h)
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	st := h.storm(scenario(4, "containerd, docker-classic"))
	st.Targets[0].URL = s.URL
	m, err := st.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantGood(t, m)
}
