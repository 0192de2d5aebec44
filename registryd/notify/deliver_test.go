package notify

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a transport that answers as it is told, and notes when it was asked.
type answers struct {
	status func(attempt int) int // 0: no answer
	header http.Header
	at     []time.Time
	events []string
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	body := new(strings.Builder)
	buf := make([]byte, 64<<10)
	n, _ := r.Body.Read(buf)
	body.Write(buf[:n])
	a.at = append(a.at, time.Now())
	a.events = append(a.events, body.String())
	status := a.status(len(a.at))
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Header: a.header, Body: http.NoBody, Request: r}, nil
}

// within runs f in a bubble of its own time, with a Notifier over a.
func within(t *testing.T, a *answers, f func(t *testing.T, n *Notifier)) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Options{Endpoints: []Endpoint{{Name: "ci", URL: "http://ci.corp/"}}, Transport: a})
		if err != nil {
			t.Fatal(err)
		}
		f(t, n)
		n.Close(t.Context())
	})
}

func TestAttemptsBecomeRareUpToAMinuteAndNeverEnd(t *testing.T) {
	a := &answers{status: func(int) int { return 0 }}
	within(t, a, func(t *testing.T, n *Notifier) {
		n.Pushed(request("PUT"), "team/app", image(0), "v1")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(a.at) < 24*60 || len(a.at) > 2*24*60+20 {
			t.Errorf("%d attempts in a day", len(a.at))
		}
		same := 0
		for i := 1; i < len(a.at); i++ {
			pause, most := a.at[i].Sub(a.at[i-1]), min(backoffFirst<<min(i-1, 20), backoffMost)
			if pause < most/2 || pause > most {
				t.Fatalf("before attempt %d it paused %v, want up to %v", i+1, pause, most)
			}
			if i > 2 && pause == a.at[i-1].Sub(a.at[i-2]) {
				same++
			}
		}
		if same > len(a.at)/10 {
			t.Error("the pauses have no jitter")
		}
	})
}

func TestTheEndpointSaysHowLongToWait(t *testing.T) {
	for after, want := range map[string]time.Duration{"30": 30 * time.Second, "3600": time.Minute, "-1": 0, "soon": 0} {
		a := &answers{header: http.Header{"Retry-After": {after}}, status: func(n int) int { return []int{429, 204}[n-1] }}
		within(t, a, func(t *testing.T, n *Notifier) {
			n.Pushed(request("PUT"), "team/app", image(0), "v1")
			time.Sleep(time.Hour)
			synctest.Wait()
			pause := a.at[1].Sub(a.at[0])
			if len(a.at) != 2 || pause != want && (want != 0 || pause > backoffFirst) {
				t.Errorf("after %q it paused %v, %d attempts", after, pause, len(a.at))
			}
		})
	}
}

func TestWhatAnEndpointRefusesHoldsUpWhatIsBehindForShort(t *testing.T) {
	a := &answers{}
	a.status = func(n int) int {
		if strings.Contains(a.events[n-1], `"tag":"bad"`) {
			return 422
		}
		return 200
	}
	within(t, a, func(t *testing.T, n *Notifier) {
		n.Pushed(request("PUT"), "team/app", image(0), "bad")
		n.Pushed(request("PUT"), "team/app", image(0), "good")
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := n.Status()[0]; len(a.at) != refusals+1 || s.Refused != 1 || s.Sent != 1 || s.Trouble != "" || s.Waiting != 0 {
			t.Errorf("%d attempts; it stands at %+v", len(a.at), s)
		}
	})
}

// TestMistakesOfTheConfigurationLoseNothing: somebody mends them in the morning.
func TestMistakesOfTheConfigurationLoseNothing(t *testing.T) {
	for _, status := range []int{301, 307, 401, 403, 404, 405, 407, 408, 425, 429, 500, 502, 503, 504} {
		var mended atomic.Bool
		a := &answers{}
		a.status = func(int) int {
			if mended.Load() {
				return 202
			}
			return status
		}
		within(t, a, func(t *testing.T, n *Notifier) {
			n.Pushed(request("PUT"), "team/app", image(0), "v1")
			time.Sleep(12 * time.Hour)
			synctest.Wait()
			if s := n.Status()[0]; s.Waiting != 1 || s.Trouble == "" || time.Since(s.Since) < 11*time.Hour {
				t.Errorf("%d: it stands at %+v", status, s)
			}
			mended.Store(true)
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := n.Status()[0]; s.Waiting != 0 || s.Sent != 1 || s.Trouble != "" {
				t.Errorf("%d, mended: it stands at %+v", status, s)
			}
		})
	}
}
