package loadtest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestFailuresAreToldApart(t *testing.T) {
	for kind, meddle := range map[string]func(h *hub) func(w http.ResponseWriter, r *http.Request) bool{
		"wrong digest": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			is := h.isLayer(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if is(r) {
					w.Write(make([]byte, 5000))
				}
				return is(r)
			}
		},
		"wrong length": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			is := h.isLayer(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if is(r) {
					w.Write(make([]byte, 5001))
				}
				return is(r)
			}
		},
		"short body": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			is := h.isLayer(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if is(r) {
					w.Header().Set("Content-Length", "5000")
					w.Write(make([]byte, 3000))
					w.(http.Flusher).Flush()
					cut(w)
				}
				return is(r)
			}
		},
		"connection closed": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			is := h.isLayer(0)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if is(r) {
					cut(w)
				}
				return is(r)
			}
		},
		"bad answer": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				c, _, _ := w.(http.Hijacker).Hijack()
				c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n\r\n"))
				c.Close()
				return true
			}
		},
		"connection closed, by us": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				c, _, _ := w.(http.Hijacker).Hijack()
				defer c.Close()
				io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for range 100 * maxHead / 8192 { // a head without an end
					if _, err := io.WriteString(c, "X: "+strings.Repeat("y", 8187)+"\r\n"); err != nil {
						return true
					}
				}
				t.Error("all of an endless head was read")
				return true
			}
		},
		"status 429": status(429), "status 503": status(503), "status 404": status(404),
		"timeout": func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
			is := h.isLayer(1)
			return func(w http.ResponseWriter, r *http.Request) bool {
				if is(r) {
					w.Header().Set("Content-Length", "5000")
					w.Write(make([]byte, 3000))
					w.(http.Flusher).Flush()
					<-r.Context().Done()
				}
				return is(r)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, 100, 5000)
			h.meddle(meddle(h))
			s := scenario(5, "containerd")
			if kind == "timeout" {
				s.Timeout = 300 * time.Millisecond
			}
			kind, _, _ := strings.Cut(kind, ",")
			wantFailure(t, h.run(s), kind)
		})
	}
}

func status(code int) func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
	return func(h *hub) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "because of "+strconv.Itoa(code), code)
			return true
		}
	}
}

func TestNobodyListensIsConnectionRefused(t *testing.T) {
	h := newHub(t, 100)
	h.Server.Close()
	wantFailure(t, h.run(scenario(3, "podman")), "connection refused")
}

func TestExamplesSayWhatTheServerSaid(t *testing.T) {
	h := newHub(t, 100)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" {
			http.Error(w, "too many of you", http.StatusTooManyRequests)
		}
		return r.Method == "GET"
	})
	m := h.run(scenario(10, "containerd"))
	wantFailure(t, m, "status 429")
	if e := m.Failures[0].Examples; len(e) != maxExamples || !strings.Contains(e[0], "too many of you") || !strings.Contains(e[0], h.URL+"/v2/library/app/manifests/sha256:") {
		t.Errorf("examples: %q", e)
	}
	if n := m.Requests["manifest"].Codes["429"]; n != 10 {
		t.Errorf("%d answers of 429: %v", n, m.Requests)
	}
}

// Ranges are compared between clients and checked against the digest by one of
// them: a byte that is wrong for some shows, whether it came to that one or not.
func TestWrongRangeOfOneClientShows(t *testing.T) {
	for _, which := range []int64{1, 4} { // the first is the one that spools
		t.Run("request "+strconv.FormatInt(which, 10), func(t *testing.T) {
			t.Parallel()
			h := newHub(t, 20<<20)
			is := h.isLayer(0)
			wrong := append([]byte{}, h.blobs[h.layer(0)]...)
			wrong[8388608+1000] ^= 1
			var asked atomic.Int64
			h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
				if !is(r) || r.Header.Get("Range") != "bytes=8388608-" || asked.Add(1) != which {
					return false
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
				return true
			})
			s := scenario(4, "containerd-2.1-ranges")
			s.Arrivals = Arrivals{Pace: "constant", Over: 4 * time.Second} // one after another
			m := h.run(s)
			if len(m.Failures) != 1 || m.Failures[0].Kind != "wrong digest" || m.Failures[0].Count != 1 || m.Verified < 3*20<<20 {
				t.Errorf("%d verified, failures %+v", m.Verified, m.Failures)
			}
		})
	}
}

// Whatever a failure does to the pull's other connections, it is the reason.
func TestFirstFailureIsThePulls(t *testing.T) {
	h := newHub(t, 20<<20, 5000, 5001)
	first := h.isLayer(0)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case first(r) && r.Header.Get("Range") == "bytes=8388608-":
			http.Error(w, "one range", http.StatusServiceUnavailable)
		case strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Range") == "bytes=0-" && !first(r):
			<-r.Context().Done()
		default:
			return false
		}
		return true
	})
	wantFailure(t, h.run(scenario(10, "containerd-2.1-ranges")), "status 503")
}

func TestRangesFallBackToOneStream(t *testing.T) {
	h := newHub(t, 20<<20)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	})
	wantGood(t, h.run(scenario(2, "containerd-2.1-ranges")))
	h = newHub(t, 20<<20)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "bytes=8388608-" {
			r.Header.Set("Range", "bytes=8388609-")
		}
		return false
	})
	wantFailure(t, h.run(scenario(2, "containerd-2.1-ranges")), "wrong range")
	h = newHub(t, 20<<20)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "bytes=8388608-" {
			return false
		}
		w.Header().Set("Content-Range", "bytes 0-12582911/20971520")
		w.Header().Set("Content-Length", "12582912")
		w.WriteHeader(206)
		return true
	})
	wantFailure(t, h.run(scenario(2, "containerd-2.1-ranges")), "wrong range")
}

func TestLazyClientsReadLittleAndCheckNothingOfIt(t *testing.T) {
	h := newHub(t, 20<<20, 1000)
	m := h.run(scenario(2, "lazy"))
	if len(m.Failures) > 0 || m.Received == 0 || m.Received > 6<<20 || m.Verified > 10<<10 || m.Wanted > m.Received+4<<20 {
		t.Errorf("%d received, %d verified, %d wanted: %+v", m.Received, m.Verified, m.Wanted, m.Failures)
	}
	if n := h.requests("bytes=20971469-20971519"); n != 2 {
		t.Errorf("%d footers read", n)
	}
}

func TestLeavingClientsHangUpInTheMiddle(t *testing.T) {
	h := newHub(t, 8<<20)
	s := scenario(10, "containerd")
	s.Clients.Leave = 4
	m := h.run(s)
	left := 0
	for _, p := range m.Pulls {
		if p.Left {
			left++
			if p.Bytes > 7<<20 {
				t.Errorf("a client that left had %d bytes", p.Bytes)
			}
		}
	}
	if left != 4 || len(m.Failures) > 0 || m.Wait.Count != 6 {
		t.Errorf("%d left, %d waits, %+v", left, m.Wait.Count, m.Failures)
	}
}

func TestSlowClientsReadAtTheirRate(t *testing.T) {
	t.Parallel()
	h := newHub(t, 300<<10, 100<<10)
	s := scenario(4, "containerd")
	s.Clients.Rate, s.Clients.Slow = 800<<10, 2
	m := h.run(s)
	wantGood(t, m)
	slow := 0
	for _, p := range m.Pulls {
		if p.End-p.Start >= 450*time.Millisecond { // 400 KiB at 800 KiB a second
			slow++
		}
	}
	if slow < 2 {
		t.Errorf("%d slow pulls: %+v", slow, m.Pulls)
	}
}

func TestSampledClientsAreNotHashed(t *testing.T) {
	h := newHub(t, 1<<20)
	s := scenario(10, "containerd")
	s.Clients.Sample = 5
	m := h.run(s)
	if len(m.Failures) > 0 || m.Received < 10<<20 || m.Verified < 2<<20 || m.Verified > 3<<20 {
		t.Errorf("%d received, %d verified, %+v", m.Received, m.Verified, m.Failures)
	}
}

func TestRedirectsAndTokens(t *testing.T) {
	h := newHub(t, 1<<20)
	cdn := newHub(t, 1<<20)
	cdn.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("the token went to another host")
		}
		return false
	})
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.URL.Query().Get("scope") != "repository:library/app:pull" || r.URL.Query().Get("service") != "hub, of tests" {
				t.Errorf("token for %v", r.URL)
			}
			w.Write([]byte(`{"token":"abc"}`))
		case r.Header.Get("Authorization") != "Bearer abc":
			w.Header().Set("Www-Authenticate", `Bearer realm="`+h.URL+`/token",service="hub, of tests",scope="repository:library/app:pull"`)
			w.WriteHeader(401)
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, cdn.URL+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			return false
		}
		return true
	})
	m := h.run(scenario(3, "containerd"))
	wantGood(t, m)
	if m.Requests["token"].Count != 3 || m.Requests["blob"].Codes["307"] != 6 || m.Requests["blob"].Codes["200"] != 6 {
		t.Errorf("%+v", m.Requests)
	}
}

func TestLoadDoesNotLeaveThisMachine(t *testing.T) {
	h := newHub(t, 100)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://192.0.2.1/elsewhere", http.StatusTemporaryRedirect)
		return true
	})
	wantFailure(t, h.run(scenario(2, "podman")), "not local")
}

func TestInterruptedRunHasWhatThereIs(t *testing.T) {
	t.Parallel()
	h := newHub(t, 100)
	is := h.isLayer(0)
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if is(r) && asked.Add(1) > 3 {
			<-r.Context().Done()
			return true
		}
		return false
	})
	s := h.storm(scenario(20, "containerd"))
	s.Scenario.Arrivals = Arrivals{Pace: "constant", Over: 10 * time.Second}
	s.Progress = func(p Progress) {
		if p.Done == 3 && asked.Load() >= 5 {
			cancel()
		}
	}
	m, err := s.Run(ctx)
	if err != context.Canceled {
		t.Errorf("error %v", err)
	}
	if n := len(m.Pulls); n < 5 || n == 20 || m.Wait.Count != 3 || len(m.Failures) != 1 || m.Failures[0].Kind != "interrupted" {
		t.Errorf("%d pulls, %d good, %+v", n, m.Wait.Count, m.Failures)
	}
}

// A server that answers nothing must not delay what is due after: that is what an
// open loop is.
func TestStalledServerDoesNotDelayLaterPulls(t *testing.T) {
	t.Parallel()
	h := newHub(t, 100)
	release := make(chan struct{})
	var asked atomic.Int64
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "HEAD" && asked.Add(1) == 30 {
			close(release) // the last has begun while no other had an answer
		}
		<-release
		return false
	})
	s := scenario(30, "containerd")
	s.Timeout = 20 * time.Second
	s.Arrivals = Arrivals{Pace: "constant", Over: 600 * time.Millisecond}
	m := h.run(s)
	wantGood(t, m)
	if m.Pulls[0].Wait() < 500*time.Millisecond {
		t.Errorf("the first pull waited %v", m.Pulls[0].Wait())
	}
}

// A kept connection that the server has closed meanwhile is the client's risk, and
// clients try again.
func TestConnectionClosedWhileIdleIsTriedAgain(t *testing.T) {
	h := newHub(t, 100)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "HEAD" {
			return false
		}
		c, b, _ := w.(http.Hijacker).Hijack()
		b.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDocker-Content-Digest: " + h.tags["v1"] + "\r\n\r\n")
		b.Flush()
		c.Close()
		return true
	})
	wantGood(t, h.run(scenario(5, "containerd")))
}

func TestChunkedBodiesAreRead(t *testing.T) {
	h := newHub(t, 200<<10, 3)
	h.meddle(func(w http.ResponseWriter, r *http.Request) bool {
		b, ok := h.blobs[path.Base(r.URL.Path)]
		if r.Method != "GET" || !ok {
			return false
		}
		w.Write(b[:len(b)/2])
		w.(http.Flusher).Flush()
		w.Write(b[len(b)/2:])
		return true
	})
	wantGood(t, h.run(scenario(5, "containerd")))
}
