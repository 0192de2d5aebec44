package need

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
)

// A Server is a program that tests run against and that is built from a Go
// module. It is executed, never imported, so its dependencies stay out of
// go.mod.
type Server struct {
	Name    string // of the binary in the cache, which need not be what its package is called
	Package string // its main package
	Module  string // the module that Package belongs to
	Version string // the module's version, exact
	// Wrapped builds it within a module made for the purpose: go install
	// refuses modules whose go.mod has replace or exclude directives.
	Wrapped bool
	// Root is set if only tests that need root run it; it is then built for
	// root, and for whoever asks for it by name.
	Root bool
}

// Servers are pinned: a test that passed last month fails for a reason of
// ours, not because a stranger released something. Changing a version here is
// all it takes; the next build replaces the binary.
var Servers = []Server{
	{Name: "registry", Package: "github.com/distribution/distribution/v3/cmd/registry", Module: "github.com/distribution/distribution/v3", Version: "v3.1.2"},
	{Name: "versitygw", Package: "github.com/versity/versitygw/cmd/versitygw", Module: "github.com/versity/versitygw", Version: "v1.8.0"},
	{Name: "minio", Package: "github.com/minio/minio", Module: "github.com/minio/minio", Version: "v0.0.0-20260212201848-7aac2a2c5b7c"},
	{Name: "crane", Package: "github.com/google/go-containerregistry/cmd/crane", Module: "github.com/google/go-containerregistry", Version: "v0.22.1"},
	{Name: "regctl", Package: "github.com/regclient/regclient/cmd/regctl", Module: "github.com/regclient/regclient", Version: "v0.11.7"},
	// The specification's own tests, as a program.
	{Name: "conformance", Package: "github.com/opencontainers/distribution-spec/conformance", Module: "github.com/opencontainers/distribution-spec/conformance", Version: "v0.0.0-20260831232431-97274622c111"},
	{Name: "staticcheck", Package: "honnef.co/go/tools/cmd/staticcheck", Module: "honnef.co/go/tools", Version: "v0.8.2"},
	{Name: "buildkitd", Package: "github.com/moby/buildkit/cmd/buildkitd", Module: "github.com/moby/buildkit", Version: "v0.33.0", Wrapped: true, Root: true},
	{Name: "buildctl", Package: "github.com/moby/buildkit/cmd/buildctl", Module: "github.com/moby/buildkit", Version: "v0.33.0", Wrapped: true, Root: true},
	// What Docker 29 is built from. The releases themselves are no Go modules.
	{Name: "dockerd-29", Package: "github.com/moby/moby/v2/cmd/dockerd", Module: "github.com/moby/moby/v2", Version: "v2.0.0-beta.24", Root: true},
}

// CacheDir is where everything that tests build or make once is kept between
// runs: binaries, images, root file systems. It is REGISTRYD_TEST_CACHE, or
// registryd-test in the user's cache folder. It need not exist.
func CacheDir() (string, error) {
	if dir := os.Getenv("REGISTRYD_TEST_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "registryd-test"), nil
}

// BinDir is where the servers' binaries lie: REGISTRYD_TEST_BIN, or bin in
// CacheDir.
func BinDir() (string, error) {
	if dir := os.Getenv("REGISTRYD_TEST_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "bin"), nil
}

// Built reports whether dir holds this server's binary at its pinned version.
// The binary itself says so: the Go linker writes modules and versions into it,
// and unlike a stamp file beside it they cannot get out of step.
func (s Server) Built(dir string) bool {
	info, err := buildinfo.ReadFile(filepath.Join(dir, s.Name))
	if err != nil || info.Path != s.Package {
		return false
	}
	return slices.ContainsFunc(append(info.Deps, &info.Main), func(m *debug.Module) bool {
		return m.Path == s.Module && m.Version == s.Version
	})
}
