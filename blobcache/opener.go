package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"hostlocal/manifest"
)

const (
	// strikes is how often a source may break off with next to nothing sent
	// before it is out. One that keeps sending may break off as often as it likes.
	strikes = 3

	// progress is how many bytes a body must bring to count as next to something.
	// At 64 KiB a request, a source that cuts every body costs 16 requests a MiB:
	// slow, but it ends.
	progress = 64 << 10
)

// errSize says that a source spoke of another length than the one before it.
var errSize = fmt.Errorf("%w: another length than was said before", manifest.ErrMismatch)

// An opener asks a blob's sources in order, and remembers which of them are out.
// It lives as long as one fill or one passing through: a failure is not held
// against a source any longer than that.
type opener struct {
	mu       sync.Mutex // guards the fields below
	all      []*candidate
	current  int  // the one to ask first
	answered bool // somebody has answered: no more races

	// spawn starts the goroutines of a race, and has an owner wait for them.
	spawn func(func())
}

type candidate struct {
	Source
	out       error // why it is not asked any more
	strikes   int
	rangeless bool // it sends everything whatever it is asked for
}

// An answer is a body from one of the sources.
type answer struct {
	body io.ReadCloser
	from int64 // the byte of the blob that body begins at
	size int64 // of the whole blob, -1 if not said
	all  bool  // nothing bounds it but the blob's end
	by   *candidate
}

func newOpener(sources []Source, spawn func(func())) *opener {
	o := &opener{all: make([]*candidate, len(sources)), spawn: spawn}
	for i, s := range sources {
		o.all[i] = &candidate{Source: s}
	}
	return o
}

// A request is for n bytes from off on, n < 0 for all that follow.
type request struct {
	off, n int64
	// plain has a source that is no Planner asked for all that follow: n was meant for
	// one that is.
	plain bool
}

// open asks for r of the first source that answers. The error says why none did.
func (o *opener) open(ctx context.Context, r request) (answer, error) {
	for {
		first, second, patience := o.next()
		if first == nil {
			return answer{}, o.verdict()
		}
		a, err := o.ask(ctx, first, second, patience, r)
		if err != nil && ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		if err == nil {
			o.mu.Lock()
			o.answered = true
			o.current = slices.Index(o.all, a.by)
			o.mu.Unlock()
			return a, nil
		}
	}
}

// next returns the source to ask, and, before the first answer, the one to ask as
// well if the first stays silent for patience.
func (o *opener) next() (first, second *candidate, patience time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.all {
		switch c := o.all[(o.current+i)%len(o.all)]; {
		case c.out != nil:
		case first == nil:
			first = c
		case second == nil:
			second = c
		}
	}
	if first == nil || second == nil || o.answered {
		return first, nil, 0
	}
	planner, ok := first.Source.(Planner)
	if !ok {
		return first, nil, 0
	}
	return first, second, planner.Patience()
}

// choosing reports whether it is open which of several sources will be used.
func (o *opener) choosing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	left := 0
	for _, c := range o.all {
		if c.out == nil {
			left++
		}
	}
	return !o.answered && left > 1
}

// strike notes that a body of c ended early after n bytes, and reports whether c is
// out. A source that stalled is out at once if there is another; one that stalls
// has cost seconds already. The only one left is asked again as long as each body
// brings something.
func (o *opener) strike(c *candidate, n int64, err error) (out bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	others := slices.ContainsFunc(o.all, func(other *candidate) bool { return other != c && other.out == nil })
	if n >= progress && (!isTimeout(err) || !others) {
		c.strikes = 0
		return c.out != nil
	}
	if c.strikes++; c.strikes >= strikes || isTimeout(err) {
		c.out = err
	}
	return c.out != nil
}

// exclude takes c out.
func (o *opener) exclude(c *candidate, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.out = err
}

// source returns the one that is asked next, nil if all are out.
func (o *opener) source() Source {
	first, _, _ := o.next()
	if first == nil {
		return nil
	}
	return first.Source
}

// name is the word for the source in use. Where none has answered it is the last
// one that failed, rather than lacked the blob.
func (o *opener) name() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 0 {
		return "none"
	}
	for _, c := range slices.Backward(o.all) {
		if !o.answered && c.out != nil && !errors.Is(c.out, fs.ErrNotExist) {
			return c.Name()
		}
	}
	return o.all[o.current].Name()
}

// stuck returns the verdict if no source is left, else nil.
func (o *opener) stuck() error {
	if o.source() != nil {
		return nil
	}
	return o.verdict()
}

// noRanges notes that c sends everything whatever it is asked for.
func (o *opener) noRanges(c *candidate) {
	o.mu.Lock()
	c.rangeless = true
	o.mu.Unlock()
}

// rangeless reports whether the source in use is one of those.
func (o *opener) rangeless() bool {
	first, _, _ := o.next()
	o.mu.Lock()
	defer o.mu.Unlock()
	return first != nil && first.rangeless
}

// preferOther has another source than the one of that name asked first, if there
// is one, and no two of them: it is for the fill after a mismatch.
func (o *opener) preferOther(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered = true // no race
	for i, c := range o.all {
		if c.Name() != name {
			o.current = i
			return
		}
	}
}

// blame makes c the source in use, for what is said of that to be said of c.
func (o *opener) blame(c *candidate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current = slices.Index(o.all, c)
}

// dismiss takes the source in use out, for good reason, and reports whether
// another is left.
func (o *opener) dismiss(err error) bool {
	o.mu.Lock()
	o.all[o.current].out = err
	o.answered = true
	o.mu.Unlock()
	return o.source() != nil
}

// verdict is why no source is left: that all of them lack the blob only if all of
// them said so.
func (o *opener) verdict() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 0 {
		return fmt.Errorf("no source to ask: %w", fs.ErrNotExist)
	}
	var missing, refused, failed error
	for _, c := range o.all {
		err := fmt.Errorf("%s: %w", c.Name(), c.out)
		switch {
		case errors.Is(c.out, fs.ErrNotExist):
			missing = err
		case errors.Is(c.out, fs.ErrPermission):
			refused = err
		default:
			failed = err
		}
	}
	// The last one asked is the nearest to the origin: what it says of a blob that
	// nobody before it had is the answer, and an outage before it only a detail.
	last := o.all[len(o.all)-1].out
	switch {
	case errors.Is(last, fs.ErrNotExist) && failed == nil && refused == nil:
		return missing
	case errors.Is(last, fs.ErrPermission), failed == nil && refused != nil:
		return refused
	case failed != nil:
		return failed
	}
	return missing
}
