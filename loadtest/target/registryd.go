package target

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hostlocal/loadtest/child"
)

// registryd is this daemon: the executable that runs the test, unless another was
// given. Its defaults are its advice; what is written is where things are.
var registryd = kind{
	program: "registryd",
	version: []string{"version"},
	settings: func(o Options) []string {
		says := []string{"the defaults: GOMEMLIMIT 96 MiB, GOGC 400", "cache on disk, " + budgetText(o.Cache)}
		if o.TagTTL == 0 {
			says = append(says, "tags are confirmed after 1 min, the default")
		} else {
			says = append(says, fmt.Sprintf("tags are confirmed after %v, so that this run has any to confirm", o.TagTTL))
		}
		switch {
		case o.Bucket.URL == "":
			says = append(says, "no bucket: mirrored content lies in the cache alone")
		case o.Bucket.Endpoint == "":
			says = append(says, "a folder as the bucket, mirror: true")
		default:
			says = append(says, "an S3 bucket, mirror: true, client: minio")
		}
		if o.Push {
			says = append(says, "push: loopback, beside the mirror that the others pull from")
		}
		if o.Blobs > 0 {
			says = append(says, fmt.Sprintf("%d other blobs in the cache at the start", o.Blobs))
		}
		return says
	},
	prepare: func(dir string, o Options) (plan, error) {
		at, err := child.FreeAddresses(2)
		if err != nil {
			return plan{}, err
		}
		registry, admin := at[0], at[1]
		cache := filepath.Join(dir, "cache")
		if err := fillCache(cache, o.Blobs); err != nil {
			return plan{}, fmt.Errorf("putting %d blobs into the cache: %w", o.Blobs, err)
		}
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(registrydConfig(registry, admin, cache, dir, o)), 0o600); err != nil {
			return plan{}, err
		}
		return plan{
			args: []string{"serve", "--config", file},
			env:  []string{"AWS_ACCESS_KEY_ID=" + o.Bucket.AccessKey, "AWS_SECRET_ACCESS_KEY=" + o.Bucket.SecretKey},
			url:  "http://" + registry, admin: "http://" + admin, profiles: true, cache: cache,
		}, nil
	},
}

// unlimited is the budget where a scenario sets none: more than any of them moves.
// The daemon bounds it by the disk.
const unlimited = 1 << 40

func registrydConfig(registry, admin, cache, dir string, o Options) string {
	store := fmt.Sprintf("url: %q\n  mirror: false", "file://"+filepath.Join(dir, "store"))
	if o.Bucket.URL != "" {
		store = fmt.Sprintf("url: %q\n  mirror: true", o.Bucket.URL)
	}
	if o.Bucket.Endpoint != "" {
		store += fmt.Sprintf("\n  s3: {endpoint: %q, region: us-east-1, client: minio, path_style: true}", o.Bucket.Endpoint)
	}
	size := o.Cache
	if size <= 0 {
		size = unlimited
	}
	tags := ""
	if o.TagTTL != 0 {
		tags = fmt.Sprintf(`, tags: [{match: "*", policy: ttl, ttl: %v}]`, o.TagTTL)
	}
	push := "off"
	if o.Push {
		push = "loopback"
	}
	return fmt.Sprintf(`listen: %s
admin: %s
push: %s
cache: {dir: %q, size: %d, keep_free: 1MiB}
store:
  %s
upstreams: {hub.test: {url: %q%s}}
default_upstream: hub.test
`, registry, admin, push, cache, size, store, strings.TrimRight(o.Upstream, "/"), tags)
}

func budgetText(n int64) string {
	if n <= 0 {
		return "without a bound that matters"
	}
	return fmt.Sprintf("at most %d MiB", n>>20)
}
