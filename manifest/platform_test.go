package manifest

import (
	"errors"
	"strings"
	"testing"
)

func mustPlatform(t testing.TB, s string) Platform {
	t.Helper()
	p, err := ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlatformsHaveOneSpelling(t *testing.T) {
	for s, want := range map[string]string{
		"linux/amd64":     "linux/amd64",
		"Linux/x86_64":    "linux/amd64",
		"linux/amd64/v1":  "linux/amd64",
		"linux/amd64/v3":  "linux/amd64/v3",
		"linux/i386":      "linux/386",
		"linux/aarch64":   "linux/arm64",
		"linux/arm64/v8":  "linux/arm64",
		"linux/arm64/8":   "linux/arm64",
		"linux/arm64/v9":  "linux/arm64/v9",
		"linux/arm":       "linux/arm/v7",
		"linux/armhf":     "linux/arm/v7",
		"linux/armel":     "linux/arm/v6",
		"linux/arm/6":     "linux/arm/v6",
		"macos/arm64":     "darwin/arm64",
		"linux/riscv64":   "linux/riscv64",
		"windows/amd64":   "windows/amd64",
		"wasi/wasm":       "wasi/wasm",
		"linux/ppc64le":   "linux/ppc64le",
		"linux/mips64le":  "linux/mips64le",
		"unknown/unknown": "unknown/unknown",
	} {
		if p, err := ParsePlatform(s); err != nil || p.String() != want {
			t.Errorf("%s is %s (%v), want %s", s, p, err, want)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/arm/v7/x", "linux amd64/x", "linux/../x\x00", "all", "*/*",
		"linux/" + strings.Repeat("a", 33), strings.Repeat("/", 1<<16)} {
		if p, err := ParsePlatform(s); !errors.Is(err, ErrPlatform) {
			t.Errorf("%.40q is %s (%v)", s, p, err)
		}
	}
	if h := Host(); h.OS == "" || h.Architecture == "" || !h.Matches(h) {
		t.Errorf("the host is %v", h)
	}
}

// What a host runs, best first; the first that an index has is taken. The lists
// are containerd's platforms.Only.
func TestBestMatchFirst(t *testing.T) {
	for host, order := range map[string]string{
		"linux/amd64":      "linux/amd64 linux/386",
		"linux/amd64/v3":   "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386",
		"linux/386":        "linux/386",
		"linux/arm/v7":     "linux/arm/v7 linux/arm/v6 linux/arm/v5",
		"linux/arm/v6":     "linux/arm/v6 linux/arm/v5",
		"linux/arm/v5":     "linux/arm/v5",
		"linux/arm64":      "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
		"linux/arm64/v8.2": "linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64 linux/arm/v8 linux/arm/v7",
		"linux/arm64/v9.1": "linux/arm64/v9.1 linux/arm64/v9 linux/arm64/v8.5 linux/arm64/v8.1 linux/arm64 linux/arm/v7",
		"linux/riscv64":    "linux/riscv64",
		"windows/amd64":    "windows/amd64",
	} {
		h := mustPlatform(t, host)
		var entries []Descriptor
		for _, s := range []string{"linux/s390x", "freebsd/amd64", "linux/amd64/v4", "linux/ppc64le"} {
			p := mustPlatform(t, s)
			entries = append(entries, Descriptor{Digest: DigestOf([]byte(s)), Platform: &p})
		}
		if d, ok := h.Best(entries); ok {
			t.Errorf("%s runs %s", host, d.Platform)
		}
		// From the worst to the best: each that is added beats those before.
		list := strings.Fields(order)
		for i := len(list) - 1; i >= 0; i-- {
			p := mustPlatform(t, list[i])
			want := Descriptor{Digest: DigestOf([]byte(list[i])), Platform: &p}
			entries = append(entries, want)
			if got, ok := h.Best(entries); !ok || got.Digest != want.Digest {
				t.Errorf("%s: got %v of %d entries, want %s", host, got.Platform, len(entries), list[i])
			}
			if !h.Matches(p) {
				t.Errorf("%s does not run %s", host, p)
			}
		}
	}
}

func TestEntriesThatAreNotChosen(t *testing.T) {
	p := mustPlatform(t, "linux/amd64")
	unknown := Platform{OS: "unknown", Architecture: "unknown"}
	erofs := p
	erofs.OSFeatures = []string{"erofs"}
	entries := []Descriptor{
		{Digest: DigestOf([]byte("none"))},
		{Digest: DigestOf([]byte("attestation")), Platform: &unknown},
		{Digest: DigestOf([]byte("marked")), Platform: &p, Annotations: map[string]string{attestation: "attestation-manifest"}},
		{Digest: DigestOf([]byte("feature")), Platform: &erofs},
		{Digest: DigestOf([]byte("first")), Platform: &p},
		{Digest: DigestOf([]byte("second")), Platform: &p},
	}
	if d, ok := p.Best(entries); !ok || d.Digest != DigestOf([]byte("first")) {
		t.Errorf("got %v", d)
	}
	if d, ok := erofs.Best(entries); !ok || d.Digest != DigestOf([]byte("feature")) {
		t.Errorf("with the feature: got %v", d)
	}
	if d, ok := p.Best(entries[:3]); ok {
		t.Errorf("got %v", d)
	}
}

func TestWindowsNeedsTheBuildOfItsHost(t *testing.T) {
	host := Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1"}
	for version, want := range map[string]bool{"10.0.17763.6893": true, "10.0.20348.1": false, "": true, "10": false} {
		if got := host.Matches(Platform{OS: "windows", Architecture: "amd64", OSVersion: version}); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// FuzzParsePlatform: what is accepted is short and plain, is its own normal form
// and round trips; and matching of anything ends.
func FuzzParsePlatform(f *testing.F) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7", "linux/arm64/v9.2", "linux/arm64/v8.999999", "linux/amd64/v99999", "a/b/c/d", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		Platform{OS: "linux", Architecture: "amd64", Variant: s}.Matches(Platform{OS: "linux", Architecture: s, OSVersion: s})
		p, err := ParsePlatform(s)
		if err != nil {
			if !errors.Is(err, ErrPlatform) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParsePlatform(p.String())
		if err != nil || again.String() != p.String() || again.String() != p.Normalize().String() {
			t.Fatalf("%q became %q, then %q: %v", s, p, again, err)
		}
		if !p.Matches(p) || len(p.runs()) > 50 {
			t.Fatalf("%q does not run itself, or too much: %v", s, p.runs())
		}
	})
}
