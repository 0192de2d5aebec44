package upstream

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
)

func TestTLSWithACAOfOnesOwn(t *testing.T) {
	hub := hubtest.New(t, hubtest.TLS())
	img := hub.AddImage("library/app", "v1", hub.Layer(3<<20))
	hub.Require(hubtest.Auth{Separate: true})
	x := testerOf(t, hub, func(c *Config) { impatient(c); c.CAFile = hub.CAFile() })
	x.wantTag(img)
	x.wantBlob(img.Layers[0])
	if q := hub.Requests(hubtest.Blobs()); len(q) != 1 || q[0].Proto != "HTTP/2.0" {
		t.Errorf("the blob came by %+v", q)
	}
	for name, fault := range map[string]hubtest.Fault{"stall": hubtest.StallAfter(1 << 20), "cut": hubtest.CutEvery(1 << 20), "headers": hubtest.Stall()} {
		hub.Fault(hubtest.Blobs(), fault)
		x.within(4*time.Second, func(context.Context) {
			_, _, _, err := x.read(img.Layers[0].Digest, 0, -1)
			if !Outage(err) {
				t.Errorf("%s: %v", name, err)
			}
		})
		hub.Heal()
		x.wantBlob(img.Layers[0])
	}

	stranger := testerOf(t, hub, nil)
	_, err := stranger.c.Head(t.Context(), "library/app", "v1")
	if e := stranger.wantOutage(err); !strings.Contains(e.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]Config{
		"https://HOST":    {URL: "registry.example"},
		"http://HOST":     {URL: "ftp://registry.example"},
		"credentials":     {URL: "https://u:secret@registry.example"},
		"query":           {URL: "https://registry.example?x=y"},
		"username":        {URL: "https://registry.example", Password: "p"},
		"ca file":         {URL: "https://registry.example", CAFile: "/nonexistent"},
		"no certificate":  {URL: "https://registry.example", CAFile: notPEM},
		"upstream broken": {Name: "broken", URL: "://"},
	} {
		c, err := New(cfg)
		if err == nil || c != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%+v) = %v; want an error about %q", cfg, err, want)
		}
	}
}
