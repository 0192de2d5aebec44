package images

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/line"
)

func TestServedScenarioIsPulledAndCounted(t *testing.T) {
	s := loadtest.Scenario{Name: "test", Clients: loadtest.Clients{Count: 25}, Images: loadtest.Images{Count: 25, Layers: []loadtest.Size{1000}},
		Upstream: loadtest.Line{Pulls: 1}, Faults: []loadtest.Fault{{At: time.Hour, Kind: "stall"}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Serve(ctx, s, "127.0.0.1:0", w)
		w.Close()
		ended <- err
	}()
	out := bufio.NewReader(r)
	first, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(first), " at ")
	var said bytes.Buffer
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(&said, out)
		read <- err
	}()
	for _, want := range []int{200, 429} {
		resp, err := http.Get(url + "/v2/storm/app-1/manifests/v1")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, not %d", resp.StatusCode, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	<-read
	for _, want := range []string{"storm/app-20:v1\n  and 5 more", "2  get manifest", "1  refused", "of 1 digests"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in\n%s%s", want, first, said.String())
		}
	}
	if err := Serve(t.Context(), s, "256.0.0.1:1", io.Discard); err == nil {
		t.Error("an address that does not exist was served")
	}
}

func TestFaultsGoWhereTheyBelong(t *testing.T) {
	faults := []loadtest.Fault{{Kind: "stall"}, {Kind: "down", On: "bucket"}, {Kind: "slow", On: "upstream", Value: 7, At: 1, For: 2}}
	up, bucket := Faults(faults, "upstream"), Faults(faults, "bucket")
	if len(up) != 2 || up[1] != (line.Fault{At: 1, For: 2, Kind: line.Slow, Value: 7}) || len(bucket) != 1 || bucket[0].Kind != line.Down {
		t.Errorf("upstream %v, bucket %v", up, bucket)
	}
}
