package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The service and the image come with an environment, which goes over a file. It
// must leave the store to the file, and without one to the default: own repositories
// only, so that the disk does not fill up with what is in the cache already.
func TestPackagedEnvironmentLeavesTheStoreToTheConfiguration(t *testing.T) {
	for name, line := range map[string]string{
		"../../systemd/registryd.service": `(?m)^Environment=(\w+=\S+)`,
		"../../Dockerfile":                `(?m)^(?:ENV|   ) (\w+=\S+)`,
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			tt := newTester(t)
			packaged, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(line).FindAllStringSubmatch(string(packaged), -1) {
				key, value, _ := strings.Cut(m[1], "=")
				if strings.HasPrefix(value, "/var") {
					value = filepath.Join(tt.dir, value)
				}
				t.Setenv(key, value)
				tt.env = append(tt.env, key+"="+value)
			}
			c := tt.good("")
			if want := filepath.Join(tt.dir, "var/cache/registryd"); c.cache.dir != want {
				t.Errorf("the cache is %s, want %s", c.cache.dir, want)
			}
			if want := "file://" + filepath.Join(tt.dir, "var/lib/registryd"); c.store.url != want || c.store.mirror {
				t.Errorf("the store is %s, mirror %v, want %s for own repositories only", c.store.url, c.store.mirror, want)
			}
			if c := tt.good("store: {url: s3://images}"); c.store.url != "s3://images" || !c.store.mirror {
				t.Errorf("with a bucket in the file the store is %s, mirror %v", c.store.url, c.store.mirror)
			}
		})
	}
}
