package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxDockerConfig bounds what is read of a Docker configuration, in bytes. Real ones
// have a few KiB.
const maxDockerConfig = 1 << 20

// dockerNames returns the names under which a Docker or Podman configuration of this
// user files credentials: "ghcr.io", "ghcr.io/owner". They are names to look under,
// of all the files that authn.DefaultKeychain may choose from; what counts is what that
// answers. A configuration that cannot be read has none, and the keychain says why.
func dockerNames() []string {
	var names []string
	for _, file := range dockerFiles() {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		var config struct {
			Auths       map[string]json.RawMessage `json:"auths"`
			CredHelpers map[string]json.RawMessage `json:"credHelpers"`
		}
		err = json.NewDecoder(io.LimitReader(f, maxDockerConfig)).Decode(&config)
		f.Close()
		if err != nil {
			continue
		}
		for _, filed := range []map[string]json.RawMessage{config.Auths, config.CredHelpers} {
			for name := range filed {
				if _, rest, ok := strings.Cut(name, "://"); ok {
					name = rest
				}
				names = append(names, strings.TrimRight(name, "/"))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// dockerFiles are where go-containerregistry looks for them.
func dockerFiles() []string {
	var files []string
	add := func(dir string, rest ...string) {
		if dir != "" {
			files = append(files, filepath.Join(append([]string{dir}, rest...)...))
		}
	}
	home, _ := os.UserHomeDir() // without one nothing is there
	add(os.Getenv("DOCKER_CONFIG"), "config.json")
	add(home, ".docker", "config.json")
	add(os.Getenv("REGISTRY_AUTH_FILE"))
	add(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	add(os.Getenv("XDG_CONFIG_HOME"), "containers", "auth.json")
	add(home, ".config", "containers", "auth.json")
	return files
}
