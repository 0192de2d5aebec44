package hubtest

import (
	"net/http"
	"os"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// TestAHubEndsWithItsTest: the port answers while the test runs, requests are
// remembered, and nobody listens afterwards.
func TestAHubEndsWithItsTest(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		h := New(t)
		url = h.URL + "/v2/"
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h.Wait(Of(Ping), 1)
		h.WaitIdle()
		if q := h.Requests(nil); len(q) != 1 || q[0].Kind != Ping || q[0].Status != 200 {
			t.Errorf("remembered: %+v", q)
		}
		if pem, err := os.ReadFile(New(t, TLS()).CAFile()); err != nil || len(pem) == 0 {
			t.Errorf("CA file: %d bytes, %v", len(pem), err)
		}
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if resp, err := http.Get(url); err == nil {
		resp.Body.Close()
		t.Errorf("the hub still answers: %d", resp.StatusCode)
	}
}
