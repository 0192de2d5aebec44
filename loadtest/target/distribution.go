package target

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hostlocal/loadtest/child"
)

// distribution is the stock registry as its recipe for a mirror has it: proxy mode
// over the filesystem driver, which the recipe asks for "to ensure best performance
// and guarantee correctness", delete enabled so that it can expire, and the
// descriptor cache in memory. Where images are pushed it is a plain registry, since
// proxy mode refuses pushes.
//
// https://distribution.github.io/distribution/recipes/mirror/
var distribution = kind{
	program: "registry",
	version: []string{"--version"},
	settings: func(o Options) []string {
		says := []string{"filesystem storage, descriptors cached in memory", "log at error, no access log, no traces"}
		if o.Push {
			return append(says, "a plain registry that was pushed to: proxy mode refuses pushes")
		}
		says = append(says, "proxy mode, ttl 168h, delete enabled")
		if o.Cache > 0 {
			says = append(says, "no byte budget: it has none")
		}
		if o.Bucket.URL != "" {
			says = append(says, "does not share the bucket: in proxy mode each instance keeps its own cache")
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
		file := filepath.Join(dir, "config.yml")
		if err := os.WriteFile(file, []byte(distributionConfig(registry, admin, cache, o)), 0o600); err != nil {
			return plan{}, err
		}
		return plan{
			args: []string{"serve", file},
			env:  []string{"OTEL_TRACES_EXPORTER=none"}, // else it speaks to a collector on port 4318
			url:  "http://" + registry, admin: "http://" + admin, profiles: true, cache: cache,
		}, nil
	},
}

func distributionConfig(registry, admin, cache string, o Options) string {
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  delete: {enabled: true}
http:
  addr: %s
  debug: {addr: %s, prometheus: {enabled: true, path: /metrics}}
`, cache, registry, admin)
	if o.Push {
		return text
	}
	return text + fmt.Sprintf("proxy: {remoteurl: %q, ttl: 168h}\n", strings.TrimRight(o.Upstream, "/"))
}
