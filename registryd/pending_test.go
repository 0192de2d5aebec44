package registryd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hostlocal/manifest"
)

// owner is one of a pendingFile: what is owed, and the notes.
type owner struct {
	sync.Mutex
	file  *pendingFile
	owed  []write
	notes map[manifest.Digest][]string
	bytes atomic.Int64 // that were accounted for
}

func newOwner(t *testing.T) *owner {
	o := &owner{notes: map[manifest.Digest][]string{}}
	path, bg := filepath.Join(t.TempDir(), "pending"), newBackground()
	t.Cleanup(func() { bg.close(context.Background()) }) // before the folder goes
	o.file = &pendingFile{
		path: path, bg: bg, log: slog.New(slog.DiscardHandler), owner: o,
		account: func(n int64) { o.bytes.Add(n) },
		empty:   func() bool { return len(o.owed) == 0 && len(o.notes) == 0 },
		all: func() (list []record) {
			for _, w := range o.owed {
				list = append(list, record{write: w})
			}
			for d, lines := range o.notes {
				for _, l := range lines {
					list = append(list, record{write: write{Digest: d}, Note: l})
				}
			}
			return list
		},
	}
	o.file.most = pendingSlack
	return o
}

// size is the file's, which is tended behind too.
func (o *owner) size() int64 {
	o.file.mu.Lock()
	defer o.file.mu.Unlock()
	return o.file.size
}

// wantKept checks what a process that is started now would read.
func (o *owner) wantKept(t *testing.T) {
	t.Helper()
	next := &pendingFile{path: o.file.path, account: func(int64) {}}
	owed, notes, err := next.load()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(owed, o.owed, func(a, b write) bool { return reflect.DeepEqual(a, b) }) {
		t.Fatalf("kept are %d writes, owed %d:\n%v\n%v", len(owed), len(o.owed), owed, o.owed)
	}
	if !maps.EqualFunc(notes, o.notes, slices.Equal) {
		t.Fatalf("kept are the notes %v, want %v", notes, o.notes)
	}
}

// TestTheFileSaysAtEachMomentWhatIsOwed drives the file at random through what can
// happen to it, and reads it as the next process would after each step.
func TestTheFileSaysAtEachMomentWhatIsOwed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	o := newOwner(t)
	digest := func() manifest.Digest { return manifest.DigestOf([]byte{byte(rnd.IntN(8))}) }
	find := func(c content) int { return slices.IndexFunc(o.owed, func(w write) bool { return w.key() == c }) }
	steps := map[string]func() record{
		"owe": func() record {
			w := write{Repo: fmt.Sprint("team/", rnd.IntN(20)), Digest: digest(), Size: int64(rnd.IntN(9))}
			if find(w.key()) < 0 {
				o.owed = append(o.owed, w)
			}
			return record{write: w}
		},
		"tag": func() record {
			w := write{Repo: fmt.Sprint("team/", rnd.IntN(20)), Digest: digest(), Manifest: true, Tags: []string{fmt.Sprint("v", rnd.IntN(3))}}
			if i := find(w.key()); i < 0 {
				o.owed = append(o.owed, w)
			} else {
				o.owed[i].addTag(w.Tags[0])
			}
			return record{write: w}
		},
		"done": func() record {
			w := write{Repo: fmt.Sprint("team/", rnd.IntN(20)), Digest: digest()}
			o.owed = slices.DeleteFunc(o.owed, func(x write) bool { return x.key() == w.key() })
			return record{write: w, Done: true}
		},
		"note": func() record {
			d, line := digest(), strings.Repeat("x", 1+rnd.IntN(300))
			o.notes[d] = append(o.notes[d], line)
			return record{write: write{Digest: d}, Note: line}
		},
		"void": func() record {
			d := digest()
			delete(o.notes, d)
			return record{write: write{Digest: d}, Void: true}
		},
	}
	names := slices.Sorted(maps.Keys(steps))
	rewritten := 0
	for range 5000 {
		o.Lock()
		for range 1 + rnd.IntN(3) {
			o.file.add(steps[names[rnd.IntN(len(names))]]())
		}
		o.Unlock()
		o.file.flush()
		if rnd.IntN(50) == 0 {
			before := o.size()
			o.file.tend()
			if now := o.size(); now > 0 && now < before {
				rewritten++
			}
		}
		if rnd.IntN(20) == 0 {
			o.wantKept(t)
		}
		if rnd.IntN(500) == 0 {
			o.Lock()
			o.owed = nil
			clear(o.notes)
			o.Unlock()
			o.file.tend()
			o.wantKept(t)
		}
	}
	o.file.tending.Lock() // a file that is being written anew counts too
	defer o.file.tending.Unlock()
	if fi, err := os.Stat(o.file.path); err != nil || rewritten == 0 || o.bytes.Load() < fi.Size() || o.bytes.Load() > fi.Size()+4096 {
		t.Errorf("written anew %d times; accounted for are %d bytes of %v, %v", rewritten, o.bytes.Load(), fi, err)
	}
}

// A disk that takes nothing for a while costs what a kill meanwhile would forget.
func TestAFileThatCouldNotBeWrittenIsWrittenAnew(t *testing.T) {
	o := newOwner(t)
	owe := func(repo string) {
		o.Lock()
		w := write{Repo: repo, Digest: manifest.DigestOf(nil)}
		o.owed = append(o.owed, w)
		o.file.add(record{write: w})
		o.Unlock()
		o.file.flush()
	}
	owe("team/a")
	dir := filepath.Dir(o.file.path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	owe("team/b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	owe("team/c")
	o.file.tend()
	o.wantKept(t)
}

// What is added while the file is written anew is in the new one, whenever it comes.
func TestNothingIsLostWhileTheFileIsWrittenAnew(t *testing.T) {
	o := newOwner(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 300 {
				o.Lock()
				w := write{Repo: fmt.Sprintf("team/%d-%d", i, n), Digest: manifest.DigestOf(nil)}
				o.owed = append(o.owed, w)
				o.file.add(record{write: w})
				o.Unlock()
				o.file.flush()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		o.file.mu.Lock()
		o.file.broken = true
		o.file.mu.Unlock()
		o.file.tend()
	}
	next := &pendingFile{path: o.file.path, account: func(int64) {}}
	owed, _, err := next.load()
	if err != nil || len(owed) != len(o.owed) {
		t.Errorf("kept are %d of %d, %v", len(owed), len(o.owed), err)
	}
}

func TestTornAndDamagedLinesAreLeftOut(t *testing.T) {
	good := `{"repo":"team/app","digest":"` + manifest.DigestOf(nil).String() + `"}`
	for name, text := range map[string]string{
		"torn at the end": good + "\n" + good[:40],
		"torn before":     good[:40] + "\n" + good + "\n",
		"endless":         strings.Repeat("x", 3*maxPendingLine) + "\n" + good + "\n",
		"endless, torn":   good + "\n" + strings.Repeat("x", 3*maxPendingLine),
		"zeros":           strings.Repeat("\x00", 5000) + "\n" + good + "\n",
		"no digest":       "{\"repo\":\"x\"}\n{}\nnull\n7\n" + good + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwner(t)
			if err := os.WriteFile(o.file.path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			owed, _, err := o.file.load()
			if err != nil || len(owed) != 1 || owed[0].Repo != "team/app" {
				t.Fatalf("%v, %v", owed, err)
			}
			// What comes next is a line of its own.
			o.owed = append(owed, write{Repo: "team/next", Digest: manifest.DigestOf(nil)})
			o.Lock()
			o.file.add(record{write: o.owed[1]})
			o.Unlock()
			o.file.flush()
			o.wantKept(t)
		})
	}
}

func BenchmarkOwing(b *testing.B) {
	o := &owner{}
	bg := newBackground()
	defer bg.close(b.Context())
	o.file = &pendingFile{path: filepath.Join(b.TempDir(), "pending"), bg: bg, log: slog.New(slog.DiscardHandler), owner: o,
		account: func(int64) {}, empty: func() bool { return false }, all: func() []record { return nil }, most: 1 << 40}
	w := write{Repo: "docker.io/library/debian", Digest: manifest.DigestOf(nil), Size: 1 << 20}
	for b.Loop() {
		o.Lock()
		o.file.add(record{write: w})
		o.Unlock()
		o.file.flush()
	}
}
