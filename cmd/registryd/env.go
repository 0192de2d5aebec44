package main

import (
	"slices"
	"strings"
)

// The environment sets any key of the configuration but upstreams and webhooks: cache.dir is
// REGISTRYD_CACHE_DIR. It goes over the file, because it is what a container, a
// unit file and a person at a shell can change without one.
const envPrefix = "REGISTRYD_"

// envConfig names the configuration file for all commands, as --config does.
const envConfig = envPrefix + "CONFIG"

// envName returns the variable that sets a key.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// readEnv puts what the environment says into c and what is wrong with it into p.
// It returns the variables that look like settings and are none. Those are no
// problem that stops a start: an orchestrator that has a service of this name
// sets a dozen such variables.
func (c *config) readEnv(environ []string, p *problems) (unknown []string) {
	fields := c.fields()
	for _, assignment := range environ {
		name, text, _ := strings.Cut(assignment, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envConfig {
			continue
		}
		i := slices.IndexFunc(fields, func(f field) bool { return envName(f.key) == name })
		if i < 0 {
			unknown = append(unknown, name)
			continue
		}
		if err := fields[i].value.Set(text); err != nil {
			p.add(name, "%v", err)
			continue
		}
		c.origin[fields[i].key] = name
	}
	slices.Sort(unknown)
	return unknown
}
