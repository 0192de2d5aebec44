package main

import (
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// config is all that a daemon is told. Its fields methods are the one list of
// keys: the file, the environment and `config show` go by it.
type config struct {
	listen, admin []string // addresses: host:port or unix:///path
	names, own    []string
	log           logConfig
	cache         cacheConfig
	store         storeConfig
	upstreams     []upstreamConfig // in the order of the file
	defaultName   string           // the upstream of bare names; "" for none
	push          string           // who may push and delete: "loopback" or "off"
	references    string           // what a pushed manifest may not name before it is there: "all", "images" or "none"
	webhooks      []webhookConfig  // in the order of the file

	// uploadExpiry is registryd.Options.UploadExpiry. It has no key: a day suits
	// everybody but a test.
	uploadExpiry time.Duration

	origin map[string]string // key -> where its value was said, for those that were
}

type logConfig struct{ level, format, access string }

type cacheConfig struct {
	dir      string
	size     size
	keepFree size
}

type storeConfig struct {
	url    string
	mirror bool
	s3     struct {
		endpoint, region, client string
		pathStyle                bool
	}
	stageFrom int64 // s3store.Options.StageFrom: no key, but for tests
}

// stageFrom is every daemon's stageFrom. The tests' blobs are small.
var stageFrom int64

// upstreamConfig is one registry that images come from.
type upstreamConfig struct {
	name               string   // as images name it: ghcr.io
	url                string   // where it answers
	hosts              []string // further values of ?ns= that mean it
	tags               []tagConfig
	username, password string
	passwordFile       string
	caFile             string   // PEM, for an own certificate authority
	authHosts          []string // where else its token service may be
	shared             bool     // its credentials may serve whoever reaches a listener that is not local
	parallel           int      // requests for blobs in flight, others wait; 0 for no bound

	line int // in the file; 0 for the default ones
}

// tagConfig says how long a tag that matches is believed.
type tagConfig struct {
	match, policy string
	ttl           time.Duration
}

func (c *config) fields() []field {
	return []field{
		{key: "listen", value: list{&c.listen}},
		{key: "admin", value: list{&c.admin}},
		{key: "names", value: list{&c.names}},
		{key: "own", value: list{&c.own}},
		{key: "log.level", value: oneOf{&c.log.level, []string{"debug", "info", "warn", "error"}}},
		{key: "log.format", value: oneOf{&c.log.format, []string{"text", "json"}}},
		{key: "log.access", value: text{&c.log.access}},
		{key: "cache.dir", value: text{&c.cache.dir}},
		{key: "cache.size", value: disk{&c.cache.size}},
		{key: "cache.keep_free", value: disk{&c.cache.keepFree}},
		{key: "store.url", value: text{&c.store.url}},
		{key: "store.mirror", value: truth{&c.store.mirror}},
		{key: "store.s3.endpoint", value: text{&c.store.s3.endpoint}},
		{key: "store.s3.region", value: text{&c.store.s3.region}},
		{key: "store.s3.client", value: oneOf{&c.store.s3.client, []string{"aws", "minio"}}},
		{key: "store.s3.path_style", value: truth{&c.store.s3.pathStyle}},
		{key: "default_upstream", value: word{&c.defaultName}},
		{key: "push", value: oneOf{&c.push, []string{"off", "loopback"}}},
		{key: "push_references", value: oneOf{&c.references, []string{"all", "images", "none"}}},
	}
}

// maxParallel bounds the bound on requests for blobs to one upstream: beyond it
// there is no registry that would not count them as an attack.
const maxParallel = 1024

func (u *upstreamConfig) fields() []field {
	return []field{
		{key: "url", value: text{&u.url}},
		{key: "hosts", value: list{&u.hosts}},
		{key: "username", value: text{&u.username}},
		{key: "password", value: text{&u.password}, secret: true},
		{key: "password_file", value: text{&u.passwordFile}},
		{key: "ca_file", value: text{&u.caFile}},
		{key: "auth_hosts", value: list{&u.authHosts}},
		{key: "shared", value: truth{&u.shared}},
		{key: "parallel", value: count{&u.parallel, maxParallel}},
	}
}

func (t *tagConfig) fields() []field {
	return []field{
		{key: "match", value: text{&t.match}},
		{key: "policy", value: oneOf{&t.policy, []string{"always", "ttl", "immutable", "offline"}}},
		{key: "ttl", value: span{&t.ttl}},
	}
}

// said reports whether the key was set by the file or the environment.
func (c *config) said(key string) bool { _, ok := c.origin[key]; return ok }

// defaults is the configuration of a daemon that was told nothing. The cache is
// disposable and lies in the user's cache folder; the store is not and lies in
// the state folder, for own repositories only: mirrored content then lives in the
// bounded cache alone, and the disk does not fill behind anybody's back.
func defaults() *config {
	return &config{
		listen: []string{"127.0.0.1:5000"},
		admin:  []string{"127.0.0.1:5001"},
		log:    logConfig{level: "info", format: "text"},
		cache: cacheConfig{
			dir:      filepath.Join(userFolder("XDG_CACHE_HOME", ".cache"), "registryd"),
			size:     size{bytes: 50 << 30},
			keepFree: size{percent: 10},
		},
		store: storeConfig{
			url:       (&url.URL{Scheme: "file", Path: filepath.Join(userFolder("XDG_STATE_HOME", ".local/state"), "registryd")}).String(),
			stageFrom: stageFrom,
		},
		upstreams:   defaultUpstreams(),
		defaultName: dockerHub,
		references:  "images",
		origin:      map[string]string{},
	}
}

// userFolder is the base folder that the XDG specification gives to the variable:
// its value if that is absolute, else rel in the home folder. A daemon without
// a home folder, as some supervisors start it, gets one of its own in TMPDIR.
func userFolder(variable, rel string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, rel)
	}
	return filepath.Join(os.TempDir(), rel)
}
