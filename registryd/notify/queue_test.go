package notify

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stall makes opening the file take until release is called, or the test ends.
func stall(t *testing.T, path string) (release func()) {
	t.Helper()
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	release = func() {
		if fi, err := os.Stat(path); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
			return
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Error(err)
			return
		}
		os.Remove(path)
		time.AfterFunc(time.Second, func() { f.Close() }) // for whoever is opening it
	}
	t.Cleanup(release)
	return release
}

const childFile = "NOTIFY_TEST_FILE"

// publishAndDie is a process that publishes to nobody, and is killed in the middle.
func publishAndDie() {
	n, err := New(Options{File: os.Getenv(childFile), Endpoints: []Endpoint{{Name: "ci", URL: "http://127.0.0.1:1/"}}})
	if err != nil {
		panic(err)
	}
	for i := range 100 {
		n.Pushed(request("PUT"), "team/app", image(1), fmt.Sprint(i))
	}
	for n.journal.stall.Load() { // on a disk that is behind a kill may cost events
		time.Sleep(time.Millisecond)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func TestAKillForgetsNothingThatWasPublished(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	h.stop()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFile+"="+h.options.File)
	if err := child.Run(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child: %v", err)
	}
	h.start()
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	v.wantTags(want...)
}

func TestARestartGoesOnWhereEachEndpointWas(t *testing.T) {
	ready := make(chan struct{})
	a, b := newReceiver(t, nil), newReceiver(t, nil)
	b.answer = func(w http.ResponseWriter, _ *http.Request, e Event) {
		select {
		case <-ready:
		default:
			w.WriteHeader(503)
		}
	}
	h := newTester(t, Endpoint{Name: "a", URL: a.URL}, Endpoint{Name: "b", URL: b.URL})
	h.push("1", "2", "3")
	a.wantTags("1", "2", "3")
	await(t, func() bool { return h.Status()[0].Waiting == 0 })
	h.stop()
	// The third is new and has to hear nothing of what was; the order is another one.
	c := newReceiver(t, nil)
	h.options.Endpoints = []Endpoint{{Name: "c", URL: c.URL}, {Name: "b", URL: b.URL, Headers: map[string]string{"X-Again": "yes"}}, {Name: "a", URL: a.URL}}
	close(ready)
	h.start()
	h.push("4")
	a.wantTags("1", "2", "3", "4")
	c.wantTags("4")
	await(t, func() bool { return h.Status()[1].Waiting == 0 })
	h.stop()
	var got []string // since: what was broken off at the stop may have come at any time
	b.mu.Lock()
	for _, d := range b.got {
		if d.header.Get("X-Again") != "" {
			got = append(got, d.event.Target.Tag)
		}
	}
	b.mu.Unlock()
	if !slices.Equal(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("b got %v", got)
	}
	h.options.Endpoints = nil // nobody is left
	h.start()
	await(t, func() bool { fi, err := os.Stat(h.options.File); return err == nil && fi.Size() == 0 })
}

func TestATornLineIsDropped(t *testing.T) {
	v := newReceiver(t, nil)
	h := newTester(t, Endpoint{Name: "ci", URL: "http://127.0.0.1:1/"})
	h.push("1", "2", "3")
	h.stop()
	whole, err := os.ReadFile(h.options.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.options.File, whole[:len(whole)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.push("4")
	h.stop()
	h.options.Endpoints[0].URL = v.URL
	h.start()
	v.wantTags("1", "2", "4")
}

func TestTheFileIsAccountedForAndEmptiedWhenAllIsDelivered(t *testing.T) {
	gate := make(chan struct{})
	v := newReceiver(t, func(http.ResponseWriter, *http.Request, Event) { <-gate })
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL})
	for range 100 {
		h.push("v1")
	}
	await(t, func() bool { return !h.journal.stall.Load() }) // all of them are written
	fi, err := os.Stat(h.options.File)
	if err != nil || h.bytes.Load() != blocks(fi.Size()) || fi.Size() < 50_000 {
		t.Errorf("accounted for are %d bytes of %d, %v", h.bytes.Load(), fi.Size(), err)
	}
	close(gate)
	await(t, func() bool { return h.bytes.Load() == 0 })
	if fi, err := os.Stat(h.options.File); err != nil || fi.Size() != 0 {
		t.Errorf("the file has %d bytes, %v", fi.Size(), err)
	}
}

func TestAFullQueueDropsTheOldestAndPullsPushNoPushOut(t *testing.T) {
	h := newTester(t, Endpoint{Name: "dead", URL: "http://127.0.0.1:1/", Actions: []string{Push, Pull}})
	r, m := request("PUT"), image(1)
	const more = 100
	for i := range maxEvents + more {
		h.publish(1, h.event(Push, r, targetOf(r, "team/app", m, 2, fmt.Sprint(i))), i%100 == 0)
	}
	for range maxPullEvents + more {
		h.publish(1, h.event(Pull, r, targetOf(r, "team/app", m, 2, "pull")), false)
	}
	q := h.queue
	if q.pushes.count > maxEvents || q.pushes.bytes > maxBytes || q.pulls.count > maxPullEvents || q.pulls.bytes > maxPullBytes {
		t.Errorf("waiting are %+v and %+v", q.pushes, q.pulls)
	}
	waiting := q.pushes.count + q.pulls.count
	if q.pushes.count < maxEvents/2 || q.pulls.count < maxPullEvents/2 || waiting != h.Status()[0].Waiting || waiting != len(q.live) {
		t.Errorf("waiting are %+v and %+v, %+v", q.pushes, q.pulls, h.Status()[0])
	}
	dropped := maxEvents + maxPullEvents + 2*more - waiting
	h.wantResult("dead dropped", dropped)
	if s := h.Status()[0]; s.Dropped != int64(dropped) {
		t.Errorf("it stands at %+v", s)
	}
	first := fmt.Sprintf(`"tag":"%d"`, maxEvents+more-q.pushes.count)
	if !bytes.Contains(q.live[0].body, []byte(first)) {
		t.Errorf("the oldest is %s, want %s", q.live[0].body, first)
	}
	// The file does not outgrow its bound, and says the same to the next process.
	await(t, func() bool { return h.bytes.Load() < 2*(maxBytes+maxPullBytes)+journalSlack+1<<20 })
	before := bodies(q)
	h.stop()
	h.start()
	if after := bodies(h.queue); !reflect.DeepEqual(after, before) {
		t.Errorf("after a restart %d wait, %d before", len(after), len(before))
	}
}

func bodies(q *queue) (list []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range q.live {
		list = append(list, string(x.body))
	}
	return list
}

// TestTheFileSaysAtEachMomentWhatWaits drives a queue at random, writes its lines by
// turns to the end of the file and anew, and reads it as the next process would.
func TestTheFileSaysAtEachMomentWhatWaits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	names := []string{"a", "b", "c"}
	q := newQueue(names)
	q.kept = true
	var file []byte
	for step := range 1000 {
		switch rnd.IntN(4) {
		case 0, 1:
			action := []string{Push, Pull}[rnd.IntN(2)]
			q.add(mask(1+rnd.IntN(7)), Event{ID: fmt.Sprint(step), Action: action})
		case 2:
			i := rnd.IntN(3)
			if x := q.first(bitOf(i)); x != nil {
				q.done(x, i)
			}
		case 3:
			if len(q.live) > 0 {
				x := q.live[rnd.IntN(len(q.live))]
				q.settle(x, x.left)
				q.note(record{Seq: x.seq})
			}
		}
		if rnd.IntN(50) == 0 {
			file = q.all() // what is still to be written is written behind
		}
		if rnd.IntN(3) > 0 {
			continue
		}
		lines, _, _ := q.take()
		file = append(file, lines...)
		next := newQueue(names)
		if _, err := next.load(bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(bodies(next), bodies(q)) || !reflect.DeepEqual(next.counts, q.counts) || next.pushes != q.pushes || next.pulls != q.pulls {
			t.Fatalf("step %d: the file says %v, %+v; waiting are %v, %+v", step, bodies(next), next.counts, bodies(q), q.counts)
		}
	}
}

// TestAFileThatCannotBeWrittenCostsOnlyWhatItIsFor: the events come from memory, and
// when the disk is well again the file has what waits.
func TestAFileThatCannotBeWrittenCostsOnlyWhatItIsFor(t *testing.T) {
	gate := make(chan struct{})
	v := newReceiver(t, func(_ http.ResponseWriter, r *http.Request, e Event) {
		if e.Target.Tag == "3" {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
	})
	h := newTester(t, Endpoint{Name: "ci", URL: v.URL, Timeout: time.Minute})
	os.Remove(h.options.File)
	if err := os.Mkdir(h.options.File, 0o700); err != nil { // as root, no mode would do
		t.Fatal(err)
	}
	h.push("1", "2", "3", "4")
	v.wantTags("1", "2", "3")
	if err := os.Remove(h.options.File); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		b, err := os.ReadFile(h.options.File)
		return err == nil && bytes.Count(b, []byte("\n")) == 2 && bytes.Contains(b, []byte(`"tag":"4"`))
	})
	close(gate)
	v.wantTags("1", "2", "3", "4")
}

// FuzzLoad reads what may lie there after anything: it must neither fail nor exceed
// a bound, and what was read must be what is read again.
func FuzzLoad(f *testing.F) {
	q := newQueue([]string{"a", "b"})
	q.kept = true
	q.add(3, Event{ID: "1", Action: Push, Target: Target{Tag: "v1"}})
	q.add(1, Event{ID: "2", Action: Pull})
	q.done(q.live[0], 0)
	lines, _, _ := q.take()
	f.Add(lines)
	f.Add(lines[:len(lines)-5])
	f.Add([]byte(`{"seq":9223372036854775807,"for":["a","a"],"event":{"id":"x"}}` + "\n"))
	f.Add([]byte(`{"seq":1,"for":["a"],"event":{"id":"x"},"by":"a"}` + "\n" + `{"seq":1}`))
	f.Add([]byte("\n\n{}\nnull\n[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		once := newQueue([]string{"a", "b"})
		once.kept = true
		torn, err := once.load(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if want := len(b) > 0 && b[len(b)-1] != '\n'; torn != want && len(b) < maxLine {
			t.Errorf("torn is %v", torn)
		}
		if once.pushes.over(false) || once.pulls.over(true) || once.seq < 0 || once.seq+1 < once.seq {
			t.Errorf("the queue is %+v, %+v, at %d", once.pushes, once.pulls, once.seq)
		}
		for i, c := range once.counts {
			n := 0
			for _, x := range once.live {
				if x.left&bitOf(i) != 0 {
					n++
				}
			}
			if n != c.waiting {
				t.Errorf("%d wait for %d, counted are %d", n, i, c.waiting)
			}
		}
		again := newQueue([]string{"a", "b"})
		if _, err := again.load(bytes.NewReader(once.all())); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(bodies(again), bodies(once)) {
			t.Errorf("read again it is %v, was %v", bodies(again), bodies(once))
		}
	})
}
