package target

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hostlocal/loadtest/child"
)

// nginx is the one of the two below that is meant by the name alone: the files in
// place where there are some, else a cache before the upstream.
var nginx = kind{
	program: "nginx",
	version: []string{"-v"},
	settings: func(o Options) []string {
		if o.Files != nil {
			return nginxStatic.settings(o)
		}
		return nginxCache.settings(o)
	},
	prepare: func(dir string, o Options) (plan, error) {
		if o.Files != nil {
			return nginxStatic.prepare(dir, o)
		}
		return nginxCache.prepare(dir, o)
	},
}

// nginxCache is proxy_cache with a lock, so that one request of many fills the
// cache, and slices of 1 MiB, so that the others get what has landed instead of
// waiting for the whole, and ranges are cached.
//
// https://docs.nginx.com/nginx/admin-guide/content-cache/content-caching/
var nginxCache = kind{
	program: "nginx",
	version: []string{"-v"},
	settings: func(o Options) []string {
		return append([]string{
			"proxy_cache with proxy_cache_lock (as long as it takes), slices of 1 MiB, proxy_cache_use_stale",
			"a blob is kept once under its digest, whoever's repository it was asked in: good for public images only",
			"tags for " + o.tagTTL() + ", everything else for a year; HTTP/1.1 with keepalive to the upstream",
			"cache on disk, " + budgetText(o.Cache),
			"follows no redirect of the upstream and gets no token by itself",
		}, nginxCommon...)
	},
	prepare: func(dir string, o Options) (plan, error) {
		cache := filepath.Join(dir, "cache")
		size := ""
		if o.Cache > 0 {
			size = fmt.Sprintf(" max_size=%d", o.Cache)
		}
		head := fmt.Sprintf(`
  proxy_cache_path %s levels=1:2 keys_zone=blobs:64m use_temp_path=off inactive=365d%s;
  upstream hub { server %s; keepalive 64; }
`, cache, size, strings.TrimPrefix(strings.TrimRight(o.Upstream, "/"), "http://"))
		const common = `
      proxy_pass http://hub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache blobs;
      proxy_cache_lock on;
      proxy_cache_lock_age 1h;
      proxy_cache_lock_timeout 1h;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504 http_429;
      proxy_cache_background_update on;
      proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
`
		body := `
    location = /v2/ { return 200 "{}"; }
    location ~ "^/v2/.+/blobs/(?<digest>[^/]+)$" {
      slice 1m;
      proxy_set_header Range $slice_range;
      proxy_cache_key $digest$slice_range;
      proxy_cache_valid 200 206 365d;` + common + `
    }
    location ~ "^/v2/.+/manifests/sha256:" {
      proxy_cache_key $uri;
      proxy_cache_valid 200 365d;` + common + `
    }
    location / {
      proxy_cache_key $uri$is_args$args;
      proxy_cache_valid 200 ` + o.tagTTL() + `;` + common + `
    }
`
		return nginxPlan(dir, cache, head, body)
	},
}

// nginxStatic has the files in place: what a plain file server can do at best.
var nginxStatic = kind{
	program: "nginx",
	version: []string{"-v"},
	settings: func(Options) []string {
		return append([]string{"a static mirror: the image's files are in place before the clock starts, nothing is asked of an upstream"}, nginxCommon...)
	},
	prepare: func(dir string, o Options) (plan, error) {
		if o.Files == nil {
			return plan{}, fmt.Errorf("nginx-static %w: it needs the content in place, which this run does not make", ErrUnable)
		}
		return nginxPlan(dir, "", "", o.Files.locations())
	},
}

// tagTTL is how long nginx takes a tag for confirmed: unless the run says otherwise
// as long as registryd does.
func (o Options) tagTTL() string {
	ttl := o.TagTTL
	if ttl == 0 {
		ttl = time.Minute
	}
	return fmt.Sprintf("%ds", max(1, int(ttl.Seconds())))
}

var nginxCommon = []string{"a worker for each CPU, sendfile, tcp_nopush, no log, no limit on requests a connection"}

// nginxPlan writes the configuration. The number of connections is what the
// descriptors of a default Debian service allow it.
func nginxPlan(dir, cache, head, server string) (plan, error) {
	at, err := child.FreeAddresses(1)
	if err != nil {
		return plan{}, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the folders are for nobody else
	}
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr error; worker_processes auto; worker_rlimit_nofile 20000; %[2]s
events { worker_connections 10000; multi_accept on; }
http {
  sendfile on; tcp_nopush on; access_log off; server_tokens on;
  keepalive_requests 1000000000;
  client_body_temp_path %[1]s/tmp/body; proxy_temp_path %[1]s/tmp/proxy; fastcgi_temp_path %[1]s/tmp/fastcgi;
  uwsgi_temp_path %[1]s/tmp/uwsgi; scgi_temp_path %[1]s/tmp/scgi;
%[4]s
  server {
    listen %[3]s backlog=4096;
    types {}
%[5]s
  }
}
`, dir, user, at[0], head, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return plan{}, err
	}
	return plan{args: []string{"-c", file, "-p", dir, "-e", "stderr"}, url: "http://" + at[0], cache: cache, gentle: true}, nil
}
