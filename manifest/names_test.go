package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func testNames(t testing.TB) *Names {
	t.Helper()
	n := &Names{
		Upstreams: []Upstream{
			{Name: "docker.io", Hosts: []string{"registry-1.docker.io", "index.docker.io"}},
			{Name: "ghcr.io"},
			{Name: "registry.k8s.io"},
			{Name: "hub.test:5443"},
		},
		Self:    []string{"registry.corp", "localhost:5000"},
		Own:     []string{"team/*", "tools", "my.org/*"},
		Default: "docker.io",
	}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	return n
}

// The table of the architecture, "Names", row by row.
func TestNamesMeanWhatTheTableSays(t *testing.T) {
	n := testNames(t)
	own := func(path string) Meaning { return Meaning{Name: Name{"", path}} }
	at := func(host, path string) Meaning { return Meaning{Name: Name{host, path}} }
	undecided := func(path string) Meaning {
		return Meaning{Name: Name{"docker.io", path}, Own: Name{"", path}, Undecided: true}
	}
	for _, c := range []struct {
		path, ns string
		want     Meaning
	}{
		// ?ns= an upstream
		{"owner/app", "ghcr.io", at("ghcr.io", "owner/app")},
		{"owner/app", "GHCR.IO", at("ghcr.io", "owner/app")},
		{"owner/app", "ghcr.io:443", at("ghcr.io", "owner/app")},
		{"library/x", "registry-1.docker.io", at("docker.io", "library/x")},
		{"library/x", "index.docker.io", at("docker.io", "library/x")},
		{"x", "docker.io", at("docker.io", "library/x")},
		{"pause", "registry.k8s.io", at("registry.k8s.io", "pause")},
		{"team/app", "docker.io", at("docker.io", "team/app")},
		{"a/b", "hub.test:5443", at("hub.test:5443", "a/b")},
		// ... with a path that names a host too
		{"ghcr.io/owner/app", "ghcr.io", at("ghcr.io", "owner/app")},
		{"index.docker.io/library/x", "docker.io", at("docker.io", "library/x")},
		{"docker.io/x", "docker.io", at("docker.io", "library/x")},
		{"ghcr.io/owner/app", "docker.io", at("docker.io", "ghcr.io/owner/app")},
		{"registry.corp/team/app", "ghcr.io", at("ghcr.io", "registry.corp/team/app")},
		// a path that begins with an upstream
		{"ghcr.io/owner/app", "", at("ghcr.io", "owner/app")},
		{"Ghcr.IO/owner/app", "", at("ghcr.io", "owner/app")},
		{"docker.io/library/x", "", at("docker.io", "library/x")},
		{"registry-1.docker.io/a/b", "", at("docker.io", "a/b")},
		{"docker.io/x", "", at("docker.io", "library/x")},
		{"registry.k8s.io/pause", "", at("registry.k8s.io", "pause")},
		{"hub.test:5443/a", "", at("hub.test:5443", "a")},
		// ?ns= this registry: as if it were not there
		{"team/app", "registry.corp", own("team/app")},
		{"a/b", "localhost:5000", undecided("a/b")},
		{"ghcr.io/owner/app", "registry.corp", at("ghcr.io", "owner/app")},
		{"registry.corp/a/b", "registry.corp", undecided("a/b")},
		{"localhost:5000/team/app", "", own("team/app")},
		{"localhost:5000/ghcr.io/o/a", "", at("ghcr.io", "o/a")},
		{"localhost:5000/x", "", at("docker.io", "library/x")},
		// own patterns
		{"team/app", "", own("team/app")},
		{"team/app/deep", "", own("team/app/deep")},
		{"tools", "", own("tools")},
		{"my.org/app", "", own("my.org/app")},
		// bare names
		{"teams/app", "", undecided("teams/app")},
		{"a/b/c", "", undecided("a/b/c")},
		// library and one component
		{"x", "", at("docker.io", "library/x")},
		{"library/x", "", at("docker.io", "library/x")},
		{"library/x/y", "", at("docker.io", "library/x/y")},
		{"team", "", at("docker.io", "library/team")},
	} {
		got, err := n.Resolve(c.path, c.ns)
		if err != nil {
			t.Errorf("%q ns %q: %v", c.path, c.ns, err)
			continue
		}
		if got.Why == "" {
			t.Errorf("%q ns %q: no reason", c.path, c.ns)
		}
		if got.Why = ""; got != c.want {
			t.Errorf("%q ns %q: got %+v, want %+v", c.path, c.ns, got, c.want)
		}
	}
}

func TestNamesThatAreRefusedSayWhatIsConfigured(t *testing.T) {
	n := testNames(t)
	long := strings.Repeat("a", MaxName)
	for _, c := range []struct {
		path, ns string
		want     error
	}{
		{"a/b", "evil.example", ErrRegistry},
		{"a/b", "ghcr.io:444", ErrRegistry},
		{"a/b", "hub.test", ErrRegistry},
		{"a/b", "ghcr.io.", ErrRegistry},
		{"a/b", "ghcr.io/x", ErrRegistry},
		{"a/b", strings.Repeat("g", 1<<16), ErrRegistry},
		{"evil.example/a", "", ErrRegistry},
		{"localhost/a", "", ErrRegistry},
		{"127.0.0.1:80/a", "", ErrRegistry},
		{"Team/a", "", ErrRegistry},
		{"", "", ErrName},
		{"/", "", ErrName},
		{"a//b", "", ErrName},
		{"a/../b", "", ErrName},
		{"..", "", ErrName},
		{"a/b/", "", ErrName},
		{"ghcr.io/", "", ErrName},
		{"ghcr.io/..", "", ErrName},
		{"", "ghcr.io", ErrName},
		{"", "docker.io", ErrName},
		{"team/../x", "", ErrName},
		{"team/_layers", "", ErrName},
		{"localhost:5000/", "", ErrName},
		{"a\x00b", "", ErrName},
		{"a%2fb", "", ErrName},
		{"UPPER", "", ErrName},
		{long + "a", "", ErrName},
		{long, "", ErrName}, // not with docker.io/library/ before it
		{long, "ghcr.io", ErrName},
		{"registry.corp/" + long + "/a", "", ErrName},
	} {
		_, err := n.Resolve(c.path, c.ns)
		if !errors.Is(err, c.want) {
			t.Errorf("%.40q ns %.40q: got %v, want %v", c.path, c.ns, err, c.want)
			continue
		}
		if len(err.Error()) > 400 {
			t.Errorf("%.40q: a message of %d bytes", c.path, len(err.Error()))
		}
		if c.want == ErrRegistry && !strings.Contains(err.Error(), "ghcr.io, registry.k8s.io") {
			t.Errorf("%.40q ns %.40q: does not say what is configured: %v", c.path, c.ns, err)
		}
	}
}

func TestPatternsMayClaimLibrary(t *testing.T) {
	hubOwn := func(own ...string) *Names {
		return &Names{Upstreams: []Upstream{{Name: "docker.io"}}, Own: own, Default: "docker.io"}
	}
	for _, c := range []struct {
		n          *Names
		path, want string
	}{
		{hubOwn("library/x"), "x", "library/x"},
		{hubOwn("library/x"), "library/x", "library/x"},
		{hubOwn("library/x"), "y", "docker.io/library/y"},
		{hubOwn("*"), "y", "y"},
		{hubOwn("*"), "library/y", "library/y"},
		{hubOwn("*"), "docker.io/y", "docker.io/library/y"},
	} {
		if m, err := c.n.Resolve(c.path, ""); err != nil || m.Name.String() != c.want || m.Undecided {
			t.Errorf("own %q, %q: got %+v, %v, want %s", c.n.Own, c.path, m, err, c.want)
		}
	}
}

func TestOwnPatternsMayClaimWhatLooksLikeAHost(t *testing.T) {
	n := &Names{
		Upstreams: []Upstream{{Name: "docker.io", Hosts: []string{"index.docker.io"}}},
		Self:      []string{"registry.corp"},
		Own:       []string{"team/*", "my.team/*", "one.team/app", "x.*/app"},
		Default:   "docker.io",
	}
	for host, want := range map[string]bool{
		"my.team": true, "one.team": true, "x.team": true, "my.teams": false, "my.tea": false,
		"quay.io": false, "docker.io": false, "index.docker.io": false, "registry.corp": false,
	} {
		if got := n.MayOwn(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
		if m, err := n.Resolve(host+"/app", ""); err == nil && m.Name.IsOwn() && m.Name.Path == host+"/app" && !want {
			t.Errorf("%s/app is own, and nothing may be", host)
		}
	}
	all := &Names{Upstreams: n.Upstreams, Own: []string{"*"}, Default: "docker.io"}
	if !all.MayOwn("quay.io") || all.MayOwn("docker.io") {
		t.Error("a pattern for everything claims everything but the upstreams")
	}
}

func TestWithoutDefaultUpstreamBareNamesAreOwn(t *testing.T) {
	n := &Names{}
	for _, path := range []string{"x", "library/x", "a/b"} {
		if m, err := n.Resolve(path, ""); err != nil || m.Name != (Name{"", path}) || m.Undecided {
			t.Errorf("%q: %+v, %v", path, m, err)
		}
	}
	if _, err := n.Resolve("a/b", "ghcr.io"); !errors.Is(err, ErrRegistry) {
		t.Errorf("ns without upstreams: %v", err)
	}
}

func TestCheckNamesEveryProblem(t *testing.T) {
	n := &Names{
		Upstreams: []Upstream{
			{Name: "docker.io", Hosts: []string{"index.docker.io"}},
			{Name: "DOCKER.io"},
			{Name: "https://quay.io"},
			{Name: "mirror.test", Hosts: []string{"index.docker.io:443"}},
		},
		Self:    []string{"mirror.test", "bare"},
		Own:     []string{"team/*", "docker.io/mine/*", "Team/*", "a/../b"},
		Default: "gcr.io",
	}
	err := n.Check()
	if err == nil {
		t.Fatal("nothing found")
	}
	for _, want := range []string{"stands twice", `"https://quay.io"`, `"index.docker.io:443"`, `"mirror.test" stands both`,
		`"bare"`, `"docker.io/mine/*"`, `"Team/*"`, `"a/../b"`, `"gcr.io"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), `"team/*"`) {
		t.Errorf("team/* is right, but:\n%v", err)
	}
}

func TestResolveDoesNotAllocate(t *testing.T) {
	n := testNames(t)
	for _, c := range [][2]string{{"ghcr.io/owner/app", ""}, {"library/x", "docker.io"}, {"team/app", ""}, {"some/app", ""}} {
		if a := testing.AllocsPerRun(100, func() { n.Resolve(c[0], c[1]) }); a != 0 {
			t.Errorf("%q: %v allocations", c, a)
		}
	}
}

// FuzzResolve: whatever a client sends, the repository that comes out is one that
// distribution accepts, at an upstream that is configured, and resolving its name
// in the bucket comes back to it.
func FuzzResolve(f *testing.F) {
	for _, s := range [][2]string{{"a/b", ""}, {"x", "docker.io"}, {"ghcr.io/a", ""}, {"localhost:5000/team/x", "registry.corp"}, {"a/../b", ""}, {"A.b/c", "GHCR.IO:443"}} {
		f.Add(s[0], s[1])
	}
	n := testNames(f)
	hosts := map[string]bool{"": true, "docker.io": true, "ghcr.io": true, "registry.k8s.io": true, "hub.test:5443": true}
	f.Fuzz(func(t *testing.T, path, ns string) {
		m, err := n.Resolve(path, ns)
		if err != nil {
			if !errors.Is(err, ErrName) && !errors.Is(err, ErrRegistry) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		for _, name := range []Name{m.Name, m.Own} {
			if name == (Name{}) && !m.Undecided {
				continue
			}
			if _, err := reference.WithName(name.String()); err != nil || !hosts[name.Host] || len(name.String()) > MaxName {
				t.Fatalf("%q ns %q became %q: %v", path, ns, name, err)
			}
		}
		again, err := n.Resolve(m.Name.String(), "")
		if err != nil || again.Name != m.Name {
			t.Fatalf("%q ns %q became %q, which becomes %q: %v", path, ns, m.Name, again.Name, err)
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	n := testNames(b)
	for _, c := range []struct{ name, path, ns string }{
		{"ns", "library/debian", "docker.io"},
		{"prefix", "ghcr.io/some-owner/some-app", ""},
		{"own", "team/some-app", ""},
		{"undecided", "some-owner/some-app", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Resolve(c.path, c.ns); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
