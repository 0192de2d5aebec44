package target

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"

	"hostlocal/loadtest/child"
)

// zot is zot with its sync extension on demand, as its article on mirroring has
// it, without dedupe across repositories switched off and with garbage collection
// off, which would only cost it. It keeps Docker's media types as they are.
//
// https://zotregistry.dev/latest/articles/mirroring/
var zot = kind{
	program: "zot",
	version: []string{"--version"},
	settings: func(o Options) []string {
		says := []string{"sync extension, onDemand, all repositories", "local storage with dedupe, gc off", "compat docker2s2", "log at error"}
		if o.Cache > 0 {
			says = append(says, "no byte budget: it has none")
		}
		if o.Bucket.URL != "" {
			says = append(says, "does not share the bucket")
		}
		return says
	},
	prepare: func(dir string, o Options) (plan, error) {
		at, err := child.FreeAddresses(1)
		if err != nil {
			return plan{}, err
		}
		registry, cache := at[0], filepath.Join(dir, "cache")
		config, err := zotConfig(registry, cache, o)
		if err != nil {
			return plan{}, err
		}
		file := filepath.Join(dir, "config.json")
		if err := os.WriteFile(file, config, 0o600); err != nil {
			return plan{}, err
		}
		return plan{args: []string{"serve", file}, url: "http://" + registry, admin: "http://" + registry, cache: cache}, nil
	},
}

// object is one of JSON.
type object = map[string]any

func zotConfig(registry, cache string, o Options) ([]byte, error) {
	host, port, err := net.SplitHostPort(registry)
	if err != nil {
		return nil, err
	}
	extensions := object{"metrics": object{"enable": true, "prometheus": object{"path": "/metrics"}}}
	if !o.Push {
		extensions["sync"] = object{"enable": true, "registries": []object{{
			"urls": []string{strings.TrimRight(o.Upstream, "/")}, "onDemand": true, "tlsVerify": false,
			"content": []object{{"prefix": "**"}},
		}}}
	}
	return json.MarshalIndent(object{
		"distSpecVersion": "1.1.1",
		"storage":         object{"rootDirectory": cache, "dedupe": true, "gc": false},
		"http":            object{"address": host, "port": port, "compat": []string{"docker2s2"}},
		"log":             object{"level": "error"},
		"extensions":      extensions,
	}, "", "  ")
}
