package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"hostlocal/blobcache"
	"hostlocal/manifest"
	"hostlocal/registryd"
	"hostlocal/registryd/notify"
	"hostlocal/registryd/upstream"
	"hostlocal/s3store"
)

// pendingFile is where in the cache folder the registry keeps what the bucket has
// still to be given.
const pendingFile = "pending"

// guardFile is where in the cache folder the registry keeps which content came with
// credentials.
const guardFile = "guarded"

// A wiring is the parts of a daemon while they are put together: what was opened
// last is closed first, by a start that fails as by a stop.
type wiring struct {
	*config
	log     *slog.Logger
	metrics *registryd.Metrics
	cache   *blobcache.Cache
	bucket  *s3store.Store
	clients map[string]*upstream.Client
	hooks   *notify.Notifier // nil: there are none
	closers []func(context.Context) error
}

// wire makes a daemon of the configuration. It asks neither the bucket nor an
// upstream anything.
func wire(c *config, log *slog.Logger) (*daemon, error) {
	w := &wiring{config: c, log: log, clients: map[string]*upstream.Client{}}
	d, err := w.daemon()
	if err != nil {
		return nil, errors.Join(err, w.close(context.Background()))
	}
	return d, nil
}

// close closes all parts in the opposite order of their opening.
func (w *wiring) close(ctx context.Context) error {
	var failed []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		failed = append(failed, w.closers[i](ctx))
	}
	w.closers = nil
	return errors.Join(failed...)
}

// later has close call f.
func (w *wiring) later(f func() error) {
	w.closers = append(w.closers, func(context.Context) error { return f() })
}

func (w *wiring) daemon() (*daemon, error) {
	if err := w.openCache(); err != nil {
		return nil, err
	}
	upstreams, err := w.openUpstreams()
	if err != nil {
		return nil, err
	}
	if err := w.openStore(); err != nil {
		return nil, err
	}
	if w.hooks, err = w.openWebhooks(); err != nil {
		return nil, err
	}
	g, err := registryd.New(registryd.Options{
		Names:        w.meanings(),
		Cache:        w.cache,
		Links:        w.cache.Names(),
		Store:        w.bucket,
		Mirror:       w.store.mirror,
		Upstreams:    upstreams,
		Policies:     w.policies(),
		References:   w.checked(),
		PendingFile:  filepath.Join(w.config.cache.dir, pendingFile),
		GuardFile:    filepath.Join(w.config.cache.dir, guardFile),
		UploadExpiry: w.uploadExpiry,
		Log:          w.log,
	})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, g.Shutdown)
	g.Resume()

	access := w.log
	if path := w.config.log.access; path != "" {
		l, closeLog, err := registryd.OpenAccessLog(path)
		if err != nil {
			return nil, fmt.Errorf("log.access: %w", err)
		}
		access = l
		w.later(closeLog)
	}
	served := registryd.HandlerOptions{Metrics: w.metrics, Access: access, Names: w.names, Push: w.pushes()}
	shown := registryd.AdminOptions{
		Metrics: w.metrics,
		Names:   w.names,
		Cache:   func() any { return w.cache.Stats() },
		Sources: func() any { return w.sources() },
		Trouble: w.trouble,
		Version: versionString(),
	}
	if w.hooks != nil {
		served.Events = w.hooks
		shown.Webhooks = func() any { return w.hooks.Status() }
	}
	return &daemon{
		registry: registryd.NewServer(registryd.NewHandler(g, served), w.log),
		admin:    registryd.NewServer(registryd.NewAdmin(g, shown), w.log),
		close:    w.close,
	}, nil
}

// openCache opens the cache, and with it the metrics that read it.
func (w *wiring) openCache() error {
	c := w.config.cache
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir, &fs); err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	total := int64(fs.Blocks) * int64(fs.Bsize)
	w.metrics = registryd.NewMetrics(func() registryd.CacheStats {
		s := w.cache.Stats()
		return registryd.CacheStats{Bytes: s.Bytes, Budget: s.Budget, Evicted: s.Evicted}
	})
	cache, err := blobcache.New(c.dir, blobcache.Options{
		Budget:   min(c.size.of(total), total),
		KeepFree: c.keepFree.of(total),
		Log:      w.log,
		OnFill:   w.metrics.ObserveFill,
		OnMismatch: func(d manifest.Digest, source string) {
			if source == registryd.SourceStore {
				w.bucket.Distrust(d) // the next write-back replaces the wrong object
			}
		},
	})
	if errors.Is(err, blobcache.ErrLocked) {
		return fmt.Errorf("cache.dir %s is another daemon's: each needs a folder of its own, and registryd status asks the one that runs: %w", c.dir, err)
	}
	if err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	w.cache = cache
	w.later(cache.Close)
	return nil
}

// openUpstreams makes a client of each upstream.
func (w *wiring) openUpstreams() (map[string]registryd.Upstream, error) {
	all := map[string]registryd.Upstream{}
	for _, u := range w.upstreams {
		password := u.password
		if u.passwordFile != "" {
			var err error
			if password, err = readSecret(u.passwordFile); err != nil {
				return nil, fmt.Errorf("upstreams.%s.password_file: %w", u.name, err)
			}
		}
		client, err := upstream.New(upstream.Config{
			Name:         u.name,
			URL:          u.url,
			Hosts:        u.hosts,
			Username:     u.username,
			Password:     password,
			Keychain:     authn.DefaultKeychain,
			AuthHosts:    u.authHosts,
			CAFile:       u.caFile,
			Parallel:     u.parallel,
			Observe:      func(kind string, code int) { w.metrics.ObserveUpstream(u.name, kind, code) },
			ObserveBytes: func(n int64) { w.metrics.AddUpstreamBytes(u.name, n) },
		})
		if err != nil {
			return nil, err
		}
		w.later(func() error { client.Close(); return nil })
		w.clients[u.name], all[u.name] = client, client
	}
	return all, nil
}

// openStore makes the store of the bucket or the folder.
func (w *wiring) openStore() error {
	bucket, err := s3store.OpenBucket(context.Background(), s3store.Config{
		URL:       w.store.url,
		Endpoint:  w.store.s3.endpoint,
		Region:    w.store.s3.region,
		Client:    w.store.s3.client,
		PathStyle: w.store.s3.pathStyle,
		Observe:   func(op string, status int, _ time.Duration) { w.metrics.ObserveStore(op, status) },
	})
	if err != nil {
		return err
	}
	w.bucket = s3store.New(bucket, s3store.Options{Mirror: w.store.mirror, Own: w.meanings().MayOwn, StageFrom: w.store.stageFrom, Log: w.log})
	w.later(w.bucket.Close)
	w.bucket.Start(context.Background()) // until Close
	return nil
}

// policies returns the rules of all upstreams' tags.
func (c *config) policies() (rules []registryd.TagRule) {
	for _, u := range c.upstreams {
		for _, t := range u.tags {
			rules = append(rules, registryd.TagRule{
				Upstream: u.name,
				Match:    t.match,
				Policy:   registryd.Policy{Mode: registryd.Mode(t.policy), TTL: t.ttl},
			})
		}
	}
	return rules
}

// pushes says whose pushes are taken.
func (c *config) pushes() registryd.Push {
	if c.push == "loopback" {
		return registryd.PushLoopback
	}
	return registryd.PushNobody
}

// checked says what has to be there before a manifest that names it.
func (c *config) checked() registryd.References {
	switch c.references {
	case "all":
		return registryd.ReferencesAll
	case "none":
		return registryd.ReferencesNone
	}
	return registryd.ReferencesImages
}
