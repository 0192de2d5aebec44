package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A tester has a file, an environment and a home of its own.
type tester struct {
	testing.TB
	dir string
	env []string
}

func newTester(t testing.TB) *tester {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	return &tester{TB: t, dir: dir}
}

// file writes the configuration and returns its name.
func (t *tester) file(yaml string) string {
	t.Helper()
	name := filepath.Join(t.dir, "config.yaml")
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// good loads a configuration that has no problem.
func (t *tester) good(yaml string) *config {
	t.Helper()
	c, _, err := load(t.file(yaml), t.env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bad loads a configuration that has exactly these problems, in this order.
func (t *tester) bad(yaml string, want ...string) {
	t.Helper()
	c, _, err := load(t.file(yaml), t.env)
	if err == nil {
		t.Fatalf("was taken, as %+v", c)
	}
	_, got, _ := strings.Cut(err.Error(), ":\n  ")
	if got != strings.Join(want, "\n  ") {
		t.Errorf("the message is\n%v\nand should end\n  %s", err, strings.Join(want, "\n  "))
	}
}

func TestEveryProblemIsNamedWithItsLine(t *testing.T) {
	newTester(t).bad(`
listn: 127.0.0.1:5000
admin: 5001
cache:
  sise: 50GiB
  size: fifty
  keep_free: [10%]
log: debug
store: {url: "ftp://x", mirror: maybe}
upstreams:
  ghcr.io: {url: ghcr.io, parallel: 0}
  Quay.io:
    tags: [{match: "v[0-9]", policy: sometimes}]
    credentials: me
default_upstream: hub.test
`,
		`line 2: unknown key "listn"; did you mean "listen"?`,
		`line 5: unknown key "cache.sise"; did you mean "cache.size"?`,
		`line 6: cache.size: "fifty" is not a size; write bytes with a unit (50GiB) or a share of the disk (80%)`,
		`line 7: cache.keep_free: takes one value, not a list`,
		`line 8: log holds keys of its own; write them indented below it`,
		`line 9: store.mirror: "maybe" is neither true nor false`,
		`line 11: upstreams.ghcr.io.parallel: "0" is not a number from 1 to 1024`,
		`line 13: upstreams.Quay.io.tags[0].policy: "sometimes" is not known here; write always or ttl or immutable or offline`,
		`line 14: unknown key "upstreams.Quay.io.credentials"; see the configuration reference in README.md`,
		`line 3: admin: "5001" is not an address; write host:port (127.0.0.1:5000, or :5000 for every interface) or unix:///path`,
		`line 9: store.url: "ftp://x" is not a store; write s3://bucket/prefix or file:///folder`,
		`line 11: upstreams.ghcr.io.url: is not an address; write https://ghcr.io`,
		`line 12: upstreams.Quay.io.tags: "v[0-9]" is not a pattern; * stands for any letters and ? for one`,
		`line 15: default_upstream "hub.test" is not among the upstreams; add it there, or leave default_upstream empty`,
	)
}

func TestWhatIsNotAConfigurationSaysWhere(t *testing.T) {
	for yaml, want := range map[string]string{
		"a: [1":                        `line 1: sequence end token ']' not found`,
		"- listen":                     `line 1: a configuration is keys with values, such as listen: 127.0.0.1:5000`,
		"listen: a:1\nlisten: b:2":     `line 2: mapping key "listen" already defined at [1:1]`,
		"names: &n [a]\nown: *n":       `line 1: names: YAML anchors, aliases and tags are not read here; write the value out` + "\n  " + `line 2: own: YAML anchors, aliases and tags are not read here; write the value out`,
		"names: [a.b]\n---\nnames: []": `line 3: a second document starts here; put all keys into one`,
		"cache: {dir: }":               `line 1: cache.dir: is empty; write a value or remove the key`,
		"names: [a: b]":                `line 1: names: takes a value, not keys of its own`,
		"? [a]\n: b":                   "",
	} {
		tt := newTester(t)
		if want == "" {
			if _, _, err := load(tt.file(yaml), nil); err == nil {
				t.Errorf("%q was taken", yaml)
			}
			continue
		}
		tt.bad(yaml, want)
	}
}

func TestWithoutAFileItRunsOnDefaults(t *testing.T) {
	tt := newTester(t)
	c, warnings, err := load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if !strings.HasPrefix(w, "cache.size is") {
			t.Errorf("warned of %s", w)
		}
	}
	if !reflect.DeepEqual(c.listen, []string{"127.0.0.1:5000"}) || !reflect.DeepEqual(c.admin, []string{"127.0.0.1:5001"}) {
		t.Errorf("listens on %v and %v", c.listen, c.admin)
	}
	if want := filepath.Join(tt.dir, ".cache", "registryd"); c.cache.dir != want {
		t.Errorf("the cache is %s, want %s", c.cache.dir, want)
	}
	if want := "file://" + filepath.Join(tt.dir, ".local", "state", "registryd"); c.store.url != want || c.store.mirror {
		t.Errorf("the store is %s, mirror %v, want %s for own repositories only", c.store.url, c.store.mirror, want)
	}
	var names []string
	for _, u := range c.upstreams {
		names = append(names, u.name)
	}
	want := []string{"docker.io", "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "public.ecr.aws", "mcr.microsoft.com"}
	if !reflect.DeepEqual(names, want) || c.defaultName != "docker.io" {
		t.Errorf("the upstreams are %v with default %s", names, c.defaultName)
	}
	if left, err := os.ReadDir(tt.dir); err != nil || len(left) > 0 {
		t.Errorf("reading a configuration left %v, %v", left, err)
	}
}

func TestAStoreThatIsNamedMirrors(t *testing.T) {
	tt := newTester(t)
	c := tt.good("store: {url: s3://images/prefix}")
	if !c.store.mirror || c.store.s3.client != "aws" || c.store.s3.pathStyle {
		t.Errorf("on AWS: %+v", c.store)
	}
	c = tt.good("store: {url: s3://images, s3: {endpoint: http://127.0.0.1:9000}}")
	if !c.store.mirror || c.store.s3.client != "minio" || !c.store.s3.pathStyle {
		t.Errorf("with an endpoint: %+v", c.store)
	}
	if c = tt.good("store: {url: s3://images, mirror: false}"); c.store.mirror {
		t.Error("mirror: false is not heard")
	}
}

func TestUpstreamsOfTheFileReplaceTheDefaultOnes(t *testing.T) {
	c := newTester(t).good(`
upstreams:
  docker.io: {tags: [{match: "v*", policy: immutable}, {ttl: 5s}]}
  hub.test:5000: {url: "http://127.0.0.1:15000", hosts: [mirror.test], parallel: 8}
`)
	if len(c.upstreams) != 2 || c.defaultName != "docker.io" {
		t.Fatalf("got %+v", c.upstreams)
	}
	hub, own := c.upstreams[0], c.upstreams[1]
	if hub.url != "https://registry-1.docker.io" || !slices.Contains(hub.hosts, "index.docker.io") {
		t.Errorf("docker.io is at %s, %v", hub.url, hub.hosts)
	}
	if want := []tagConfig{{"v*", "immutable", time.Minute}, {"*", "ttl", 5 * time.Second}}; !reflect.DeepEqual(hub.tags, want) {
		t.Errorf("docker.io's tags are %v, want %v", hub.tags, want)
	}
	if own.url != "http://127.0.0.1:15000" || own.parallel != 8 || !reflect.DeepEqual(own.tags, []tagConfig{newTag()}) {
		t.Errorf("hub.test is %+v", own)
	}
	if c := newTester(t).good("upstreams: {hub.test: {}}"); c.defaultName != "" {
		t.Errorf("bare names mean %s, which is no upstream", c.defaultName)
	}
}

func TestEnvironmentGoesOverTheFile(t *testing.T) {
	tt := newTester(t)
	cache := filepath.Join(tt.dir, "elsewhere")
	tt.env = []string{"REGISTRYD_CACHE_DIR=" + cache, "REGISTRYD_LISTEN=127.0.0.1:1,[::1]:2", "REGISTRYD_STORE_S3_PATH_STYLE=false", "REGISTRYD_CONFIG=x", "HOME=/"}
	c := tt.good("cache: {dir: /nowhere}\nlisten: unix:///run/r.sock\nlog: {level: debug}")
	if c.cache.dir != cache || !reflect.DeepEqual(c.listen, []string{"127.0.0.1:1", "[::1]:2"}) || c.log.level != "debug" || c.store.s3.pathStyle {
		t.Errorf("got %+v", c)
	}
	tt.env = []string{"REGISTRYD_CACHE_SIZE=huge", "REGISTRYD_LOG_LEVEL="}
	tt.bad("",
		`REGISTRYD_CACHE_SIZE: "huge" is not a size; write bytes with a unit (50GiB) or a share of the disk (80%)`,
		`REGISTRYD_LOG_LEVEL: "" is not known here; write debug or info or warn or error`)
}

func TestStrangeVariablesAreOnlyWarnedOf(t *testing.T) {
	newTester(t)
	_, warnings, err := load("", []string{"REGISTRYD_PORT=tcp://10.0.0.1:5000", "REGISTRYD_CACHEDIR=/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"REGISTRYD_PORT", "REGISTRYD_CACHEDIR"} {
		if !strings.Contains(strings.Join(warnings, "\n"), name+" sets no key") {
			t.Errorf("no warning names %s: %v", name, warnings)
		}
	}
}

func TestUnusableFoldersAreNamed(t *testing.T) {
	tt := newTester(t)
	plain := filepath.Join(tt.dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tt.bad("cache: {dir: "+plain+"}\nstore: {url: 'file://"+plain+"'}",
		"line 1: cache.dir: "+plain+" is a file; name a folder",
		"line 2: store.url: "+plain+" is a file; name a folder")
	tt.bad("cache: {dir: "+tt.dir+"/both}\nstore: {url: 'file://"+tt.dir+"/both/store'}",
		"line 2: store.url: "+tt.dir+"/both/store and cache.dir "+tt.dir+"/both lie in one another; the cache evicts what it finds there, so give each a folder of its own")
}

// Root may write everywhere, as far as a look tells.
func TestAFolderOfOthersIsNamed(t *testing.T) {
	tt := newTester(t)
	tt.bad("cache: {dir: /proc/registryd}",
		"line 1: cache.dir: /proc/registryd does not exist and cannot be created in /proc: "+denied(t, "/proc")+"; create it, or run as a user who may")
}

// denied returns the kernel's word for why dir cannot be written to; it is skipped
// where it can.
func denied(t *testing.T, dir string) string {
	t.Helper()
	err := usable(dir)
	if err == nil {
		t.Skipf("skipped: %s can be written to here", dir)
	}
	_, word, _ := strings.Cut(err.Error(), "cannot be written to: ")
	word, _, _ = strings.Cut(word, ";")
	return word
}

func TestCredentialsAndAnOpenListenerDoNotGoTogether(t *testing.T) {
	tt := newTester(t)
	const upstreams = "\nupstreams:\n  ghcr.io: {username: me, password: secret"
	const told = "line 3: upstreams.ghcr.io has credentials (its username), and %s is open to others, who would pull with them; " +
		"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may"
	for _, open := range []string{":5000", "0.0.0.0:5000", "[::]:5000", "10.0.0.1:5000"} {
		tt.bad("listen: ['"+open+"', 127.0.0.1:5002]"+upstreams+"}", strings.Replace(told, "%s", open, 1))
		tt.good("listen: '" + open + "'" + upstreams + ", shared: true}")
	}
	for _, closed := range []string{"127.0.0.1:5000", "[::1]:5000", "localhost:5000", "127.9.9.9:1", "unix:///run/r.sock", "[::ffff:127.0.0.1]:5000"} {
		tt.good("listen: '" + closed + "'" + upstreams + "}")
	}
}

func TestCredentialsOfTheDockerConfigurationCountToo(t *testing.T) {
	tt := newTester(t)
	docker := filepath.Join(tt.dir, ".docker")
	if err := os.Mkdir(docker, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(`{"auths": {"ghcr.io": {"auth": "bWU6c2VjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tt.bad("listen: ':5000'\nupstreams:\n  ghcr.io: {}\n  quay.io: {}",
		"line 3: upstreams.ghcr.io has credentials (of ghcr.io in the Docker configuration), and :5000 is open to others, who would pull with them; "+
			"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may")
}

// They are looked for under every name of the upstream, as they are when it is asked.
func TestCredentialsUnderAnotherNameOfTheUpstreamCount(t *testing.T) {
	tt := newTester(t)
	tt.Setenv("DOCKER_CONFIG", tt.dir)
	auths := `{"auths": {"registry.corp": {"auth": "bWU6c2VjcmV0"}, "127.0.0.1:15000": {"auth": "bWU6c2VjcmV0"}, "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"}}}`
	if err := os.WriteFile(filepath.Join(tt.dir, "config.json"), []byte(auths), 0o600); err != nil {
		t.Fatal(err)
	}
	const told = "line 2: upstreams.%s has credentials (of %s in the Docker configuration), and :5000 is open to others, who would pull with them; " +
		"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may"
	tt.bad("listen: ':5000'\nupstreams: {corp.test: {url: 'https://registry.corp'}}", fmt.Sprintf(told, "corp.test", "registry.corp"))
	tt.bad("listen: ':5000'\nupstreams: {corp.test: {hosts: [registry.corp]}}", fmt.Sprintf(told, "corp.test", "registry.corp"))
	tt.bad("listen: ':5000'\nupstreams: {corp.test: {url: 'http://127.0.0.1:15000'}}", fmt.Sprintf(told, "corp.test", "127.0.0.1:15000"))
	tt.bad("listen: ':5000'\nupstreams: {docker.io: {}}", fmt.Sprintf(told, "docker.io", "docker.io"))
	tt.good("listen: ':5000'\nupstreams: {corp.test: {}}")
}

func TestNamesThatContradictEachOtherAreRefused(t *testing.T) {
	newTester(t).bad("names: [hub.test]\nown: ['hub.test/*']\nupstreams:\n  hub.test: {hosts: [other.test]}\n  other.test: {}",
		`line 3: "other.test" stands both for upstream hub.test and for upstream other.test; remove one`,
		`line 3: "hub.test" stands both for upstream hub.test and for names (this registry); remove one`,
		`line 2: own: "hub.test/*" can claim nothing, names that begin with hub.test are not bare; remove that part`)
}

func TestShownConfigurationIsReadBackTheSame(t *testing.T) {
	tt := newTester(t)
	tt.env = []string{"REGISTRYD_CACHE_SIZE=80%"}
	c := tt.good(`
names: [registry.corp, "localhost:5000"]
own: ["team/*"]
log: {access: ` + tt.dir + `/access.log}
store: {url: s3://images/prefix, s3: {endpoint: "http://127.0.0.1:9000"}}
upstreams:
  docker.io: {}
  hub.test: {url: "http://127.0.0.1:1", username: "a: b", password: "s3cret #1", auth_hosts: [auth.test], tags: [{match: "*-rc?", policy: always}]}
`)
	var shown bytes.Buffer
	c.show(&shown)
	if strings.Contains(shown.String(), "s3cret") || !strings.Contains(shown.String(), hidden) {
		t.Errorf("the password is not hidden in\n%s", &shown)
	}
	for _, want := range []string{"size: 80% # REGISTRYD_CACHE_SIZE", "names: [registry.corp, localhost:5000] # line 2", "level: info # default"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("%q is not in\n%s", want, &shown)
		}
	}
	tt.env = nil
	again := tt.good(shown.String())
	again.origin, c.origin = nil, nil
	for i := range c.upstreams {
		c.upstreams[i].line, again.upstreams[i].line = 0, 0
	}
	c.upstreams[1].password = strings.Trim(hidden, `"`)
	if !reflect.DeepEqual(c, again) {
		t.Errorf("was\n%+v\nread back as\n%+v\nfrom\n%s", c, again, &shown)
	}
}

// Without a daemon resolve says by which rule a tag is believed; it has to be the
// one that the daemon goes by.
func TestExplainedPolicyIsTheDaemonsOwn(t *testing.T) {
	c := newTester(t).good(`
upstreams:
  hub.test:
    tags: [{match: "vendor/*", policy: offline}, {match: "team/*:v*", policy: immutable}, {match: "rc?", policy: always}, {ttl: 5s}]
default_upstream: hub.test
own: ["mine/*"]
`)
	for name, want := range map[string]string{
		"hub.test/vendor/deep/app:v1": "offline",
		"hub.test/team/deep/app:v1":   "immutable",
		"hub.test/team/app:rc1":       "always",
		"app":                         "ttl 5s",
		"mine/app":                    "always",
	} {
		if e, err := c.explain(name); err != nil || e.Policy != want {
			t.Errorf("%s: policy %q, %v, want %q", name, e.Policy, err, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add("listen: 127.0.0.1:5000\nupstreams:\n  a.b: {tags: [{}]}\n")
	f.Add("a: [1\n---\n? x\n: !!t *y")
	f.Fuzz(func(t *testing.T, yaml string) {
		name := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		var p problems
		c := defaults()
		if err := c.readFile(name, &p); err != nil {
			t.Fatal(err)
		}
		c.show(&bytes.Buffer{}) // whatever was taken can be shown
	})
}

// Credentials may be those of one repository: whoever can connect would pull it with
// them.
func TestCredentialsOfOneRepositoryCount(t *testing.T) {
	const secret = `{"auth": "bWU6c2VjcmV0"}`
	const told = "line 2: upstreams.ghcr.io has credentials (of ghcr.io/owner/app in the Docker configuration), and :5000 is open to others, who would pull with them; " +
		"listen on 127.0.0.1 or a unix socket, or write shared: true if all who can connect may pull what these credentials may"
	const config = "listen: ':5000'\nupstreams: {ghcr.io: {%s}}"
	for name, c := range map[string]struct{ variable, value, file, text string }{
		"beside an empty entry": {"DOCKER_CONFIG", "", "config.json", `{"auths": {"ghcr.io": {}, "ghcr.io/owner/app": ` + secret + `}}`},
		"podman's":              {"REGISTRY_AUTH_FILE", "auth.json", "auth.json", `{"auths": {"ghcr.io": {}, "ghcr.io/owner/app": ` + secret + `}}`},
		"a helper's":            {"DOCKER_CONFIG", "", "config.json", `{"credHelpers": {"ghcr.io/owner/app": "missing"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			tt := newTester(t)
			if err := os.WriteFile(filepath.Join(tt.dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv(c.variable, filepath.Join(tt.dir, c.value))
			tt.bad(fmt.Sprintf(config, ""), told)
			tt.good(fmt.Sprintf(config, "shared: true"))
			tt.good("listen: ':5000'\nupstreams: {quay.io: {}}")
		})
	}
}
