package need

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
)

// A Server is a program that tests run against and that is built from a Go
// module. It is executed, never imported, so its dependencies stay out of
// go.mod.
type Server struct {
	Name    string // of the binary
	Package string // its main package
	Module  string // the module that Package belongs to
	Version string // the module's version, exact
}

// Servers are pinned: a test that passed last month fails for a reason of
// ours, not because a stranger released something. Changing a version here is
// all it takes; the next build replaces the binary.
var Servers = []Server{
	{"registry", "github.com/distribution/distribution/v3/cmd/registry", "github.com/distribution/distribution/v3", "v3.1.2"},
	{"versitygw", "github.com/versity/versitygw/cmd/versitygw", "github.com/versity/versitygw", "v1.8.0"},
	{"minio", "github.com/minio/minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"},
	{"crane", "github.com/google/go-containerregistry/cmd/crane", "github.com/google/go-containerregistry", "v0.22.1"},
	{"staticcheck", "honnef.co/go/tools/cmd/staticcheck", "honnef.co/go/tools", "v0.8.2"},
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
// The binary itself says so: the Go linker writes module and version into it,
// and unlike a stamp file beside it they cannot get out of step.
func (s Server) Built(dir string) bool {
	info, err := buildinfo.ReadFile(filepath.Join(dir, s.Name))
	return err == nil && info.Main.Path == s.Module && info.Main.Version == s.Version
}
