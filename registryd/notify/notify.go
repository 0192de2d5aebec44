// Package notify tells other programs what happens to the images here: webhooks in
// the form of the stock registry's, so that what listens to one listens to this.
//
//	Pushed, Deleted ──> queue ──> one sender an endpoint ──> POST, 2xx
//	Pulled ──> window ──┘  │            └── anything else: again, later
//	                       └──> journal, a file, for the next process
//
// It keeps two promises. Whoever publishes is not held up: not by an endpoint,
// whatever that does, and by a disk for publishLimit at most, once. And an event
// that was published reaches each endpoint that wants it at least once and in order,
// over restarts and kills, unless so much waits that the queue's bound pushes it
// out, or the endpoint refuses it; both are counted and said. An event that comes
// twice has the same id.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hostlocal/manifest"
)

// The actions of events, in the stock registry's words.
const (
	Push   = "push"
	Delete = "delete"
	Pull   = "pull"
)

// What becomes of an event, as Options.Observe hears it.
const (
	Sent    = "sent"    // the endpoint took it
	Failed  = "failed"  // an attempt that is made again
	Refused = "refused" // the endpoint does not take this one, and it was given up
	Dropped = "dropped" // pushed out by what came later
	Merged  = "merged"  // a pull like one within the same second: no event of its own
	Limited = "limited" // a pull beyond what is told in a second: no event
)

// MaxEndpoints bounds the endpoints. Each has a goroutine, a connection, and a bit
// of every event's mask.
const MaxEndpoints = 64

// DefaultTimeout is how long an endpoint may take for its answer if it does not say.
// The stock registry's example has 1 s, which is what a receiver that only queues
// needs; one that works first needs more, and nobody waits for it here.
const DefaultTimeout = 5 * time.Second

// publishLimit is how long a push waits for the kernel to have its event's line. On
// a disk that is well it takes microseconds. After one that took longer nobody waits
// until the disk has caught up: a kill may then cost these events.
const publishLimit = 100 * time.Millisecond

// dropTold is how often at most the log hears of dropped events: a dead endpoint
// lasts.
const dropTold = time.Minute

// An Endpoint is where events go.
type Endpoint struct {
	Name         string            // of letters that a label may have; by it the queue knows the endpoint over restarts
	URL          string            // http or https; redirects are not followed
	Secret       string            // signs the bodies (sign.go); empty: they are not signed
	Headers      map[string]string // are sent with each request
	Actions      []string          // nil: Push and Delete
	Repositories []string          // patterns of repositories as the bucket names them; nil: all
	Timeout      time.Duration     // of a request; 0: DefaultTimeout
}

// wants reports whether events of the repository go there.
func (e *Endpoint) wants(action, repo string) bool {
	if !slices.Contains(e.Actions, action) {
		return false
	}
	return e.Repositories == nil || slices.ContainsFunc(e.Repositories, func(p string) bool { return manifest.MatchPattern(p, repo) })
}

// Options says where events go and where they wait.
type Options struct {
	Endpoints []Endpoint
	// File is where what is not delivered outlives a restart; empty: it does not.
	File string
	// Account is told by how many bytes of allocated blocks the file has grown; nil:
	// nobody is.
	Account func(int64)
	// Addr is this registry's name for itself in events: host:port.
	Addr string
	// Observe is told what becomes of events; nil: nobody is.
	Observe   func(endpoint, result string)
	Log       *slog.Logger      // nil: nothing is logged
	Transport http.RoundTripper // nil: one of its own
}

// A Notifier publishes events. Its methods may be called from any number of
// goroutines. Close it.
type Notifier struct {
	senders   []*sender
	wantsPull bool // whether any endpoint does
	window    window
	queue     *queue
	journal   *journal // nil: memory alone
	source    Source
	observe   func(endpoint, result string)
	log       *slog.Logger
	said      atomic.Int64 // when the log was told of drops

	stop    chan struct{}      // closed: nothing more is sent
	cancel  context.CancelFunc // ends what is being sent
	sending sync.WaitGroup
	ended   chan struct{} // closed: nobody sends, the journal may end
	writing sync.WaitGroup
}

// New returns a Notifier and starts to deliver, first what the last process left in
// the file. Events for endpoints that are not there any more are forgotten.
func New(o Options) (*Notifier, error) {
	if len(o.Endpoints) > MaxEndpoints {
		return nil, fmt.Errorf("%d webhooks are more than the %d that there may be", len(o.Endpoints), MaxEndpoints)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	host, _ := os.Hostname() // without one the address says it
	n := &Notifier{
		source:  Source{Addr: o.Addr, InstanceID: newID(time.Now())},
		observe: o.Observe,
		log:     o.Log,
		stop:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	if n.source.Addr == "" {
		n.source.Addr = host
	}
	var names []string
	for _, e := range o.Endpoints {
		if slices.Contains(names, e.Name) {
			return nil, fmt.Errorf("two webhooks have the name %q", e.Name)
		}
		names = append(names, e.Name)
	}
	n.queue = newQueue(names)
	if o.File != "" {
		var err error
		if n.journal, err = openJournal(o.File, n.queue, o.Account, o.Log); err != nil {
			return nil, fmt.Errorf("reading the events that wait for webhooks in %s: %w; remove the file to go on without them", o.File, err)
		}
	}
	n.start(o)
	return n, nil
}

// start starts the goroutines.
func (n *Notifier) start(o Options) {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	client := newClient(o.Transport)
	for i, e := range o.Endpoints {
		if e.Actions == nil {
			e.Actions = []string{Push, Delete}
		}
		if e.Timeout <= 0 {
			e.Timeout = DefaultTimeout
		}
		n.wantsPull = n.wantsPull || slices.Contains(e.Actions, Pull)
		s := &sender{endpoint: e, place: i, bit: bitOf(i), queue: n.queue, client: client, observe: n.observe, log: o.Log.With("webhook", e.Name)}
		n.senders = append(n.senders, s)
	}
	for _, s := range n.senders {
		n.sending.Go(func() { s.run(ctx, n.stop) })
	}
	if n.journal != nil {
		n.writing.Go(func() { n.journal.run(n.ended) })
	}
}

// Pushed publishes that a manifest was pushed, with its Body, under a tag or, with
// an empty one, by its digest. Call it when the bucket has all of it and before that
// is acknowledged: then no kill forgets the event of an acknowledged push.
func (n *Notifier) Pushed(r *http.Request, repo string, m *manifest.Manifest, tag string) {
	if to := n.wanting(Push, repo); to != 0 {
		n.publish(to, n.event(Push, r, targetOf(r, repo, m, int64(len(m.Body)), tag)), true)
	}
}

// Deleted publishes that a tag was deleted, which has no digest here, or a manifest
// or a blob, which has no tag.
func (n *Notifier) Deleted(r *http.Request, repo string, d manifest.Digest, tag string) {
	if to := n.wanting(Delete, repo); to != 0 {
		n.publish(to, n.event(Delete, r, Target{Repository: repo, Digest: d.String(), Tag: tag}), true)
	}
}

// Pulled publishes that a manifest of size bytes was sent, or counts it where that
// would be too much (window.go). It does not wait for a disk. Where no endpoint wants
// pulls it costs nothing.
func (n *Notifier) Pulled(r *http.Request, repo string, m *manifest.Manifest, size int64, tag string) {
	if !n.wantsPull {
		return
	}
	to := n.wanting(Pull, repo)
	if to == 0 {
		return
	}
	if result := n.window.admit(pulled{repo, tag, m.Digest}, time.Now()); result != "" {
		for _, s := range n.senders {
			if to&s.bit != 0 {
				n.observe(s.endpoint.Name, result)
			}
		}
		return
	}
	n.publish(to, n.event(Pull, r, targetOf(r, repo, m, size, tag)), false)
}

// wanting returns the endpoints that an event goes to.
func (n *Notifier) wanting(action, repo string) (to mask) {
	for _, s := range n.senders {
		if s.endpoint.wants(action, repo) {
			to |= s.bit
		}
	}
	return to
}

// publish queues an event and, if it is to be kept, waits until a kill does not
// forget it.
func (n *Notifier) publish(to mask, e Event, keep bool) {
	written, dropped := n.queue.add(to, e)
	n.dropped(dropped)
	if keep && n.journal != nil {
		n.journal.await(written)
	}
}

// dropped tells of events that these endpoints will not get, of each once.
func (n *Notifier) dropped(names []string) {
	for _, name := range names {
		n.observe(name, Dropped)
	}
	if now, last := time.Now().UnixNano(), n.said.Load(); len(names) > 0 && now-last >= int64(dropTold) && n.said.CompareAndSwap(last, now) {
		n.log.Warn("webhook events are dropped: more wait than the queue holds", "webhooks", slices.Compact(slices.Sorted(slices.Values(names))))
	}
}

// closeGrace is how long at a stop a request that is under way has to be answered.
// One that is broken off goes out again after the next start, so this saves a
// receiver from hearing twice, and no more.
const closeGrace = 300 * time.Millisecond

// Close ends the deliveries and waits for them, at most until ctx ends. What is not
// delivered is in the file.
func (n *Notifier) Close(ctx context.Context) error {
	close(n.stop)
	defer n.cancel()
	defer time.AfterFunc(closeGrace, n.cancel).Stop()
	idle := make(chan struct{})
	go func() {
		n.sending.Wait()
		close(n.ended)
		n.writing.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the webhooks did not end in time: %w", ctx.Err())
	}
}
