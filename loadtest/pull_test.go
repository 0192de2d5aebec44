package loadtest

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryProfilePullsEveryByte(t *testing.T) {
	for _, profile := range []string{"docker-classic", "containerd", "containerd-2.1-ranges", "podman"} {
		t.Run(profile, func(t *testing.T) {
			h := newHub(t, 20<<20, 1<<20, 300, 1)
			m := h.run(scenario(4, profile))
			wantGood(t, m)
			size := int64(0)
			for _, b := range h.blobs {
				size += int64(len(b))
			}
			if m.Wanted != size || m.Received != 4*size || m.Sources["disk"] != 4*size || m.FirstByte.Count != 4 {
				t.Errorf("wanted %d, received %d, by source %v, of an image of %d", m.Wanted, m.Received, m.Sources, size)
			}
			for _, p := range m.Pulls {
				if p.Bytes != size || p.Requests == 0 {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

func TestConversationsAreThoseOfTheClients(t *testing.T) {
	short := func(h *hub) (all []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, l := range h.log {
			l = strings.ReplaceAll(l, "/v2/library/app", "")
			for name, b := range h.blobs {
				l = strings.ReplaceAll(l, name, "<"+kindOfBlob(b)+">")
			}
			all = append(all, l)
		}
		slices.Sort(all[min(len(all), 4):]) // blobs come in any order
		return all
	}
	for profile, want := range map[string][]string{
		"docker-classic": {"GET /v2/", "HEAD /manifests/v1", "GET /manifests/<index>", "GET /manifests/<manifest>", "GET /blobs/<config>", "GET /blobs/<layer>"},
		"containerd": {"HEAD /manifests/v1?ns=hub.test", "GET /manifests/<index>?ns=hub.test", "GET /manifests/<manifest>?ns=hub.test",
			"GET /blobs/<config>?ns=hub.test", "GET /blobs/<layer>?ns=hub.test"},
		"podman": {"GET /v2/", "GET /manifests/v1", "GET /manifests/<manifest>", "GET /blobs/<config>", "GET /blobs/<layer>"},
		"containerd-2.1-ranges": {"HEAD /manifests/v1?ns=hub.test", "GET /manifests/<index>?ns=hub.test bytes=0-", "GET /manifests/<manifest>?ns=hub.test bytes=0-",
			"GET /blobs/<config>?ns=hub.test bytes=0-", "GET /blobs/<layer>?ns=hub.test bytes=0-", "GET /blobs/<layer>?ns=hub.test bytes=16777216-", "GET /blobs/<layer>?ns=hub.test bytes=8388608-"},
	} {
		h := newHub(t, 20<<20)
		s := h.storm(scenario(1, profile))
		s.Targets[0].Namespace = "hub.test"
		m, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantGood(t, m)
		got := short(h)
		slices.Sort(got[3:])
		slices.Sort(want[3:])
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, not\n%q", profile, got, want)
		}
		if n := len(h.conns); profile == "docker-classic" && n != len(want) {
			t.Errorf("docker opened %d connections for %d requests", n, len(want))
		} else if profile == "containerd" && n > 2 {
			t.Errorf("containerd opened %d connections", n)
		}
	}
}

func kindOfBlob(b []byte) string {
	switch {
	case strings.Contains(string(b[:min(len(b), 2000)]), `"manifests"`):
		return "index"
	case strings.Contains(string(b[:min(len(b), 2000)]), `"layers"`):
		return "manifest"
	case b[0] == '{':
		return "config"
	}
	return "layer"
}
