package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// moduleRoot is where the module begins, as seen from this package.
const moduleRoot = "../.."

// mayImport is who knows whom: the packages of this module that each one imports.
// There are no cycles, and siblings do not meet. An arrow that is added here is a
// decision; see DESIGN.md.
var mayImport = map[string][]string{
	"manifest":                      {},
	"blobcache":                     {"manifest"},
	"s3store":                       {"manifest"},
	"s3store/s3test":                {"manifest", "s3store"},
	"registryd":                     {"blobcache", "manifest", "registryd/upstream"},
	"registryd/upstream":            {"manifest"},
	"registryd/upstream/hubtest":    {"loadtest/hub", "manifest"},
	"registryd/notify":              {"manifest"},
	"registryd/archive":             {"manifest"},
	"registryd/archive/archivetest": {"manifest"},
	"systemd":                       {},
	"loadtest":                      {"loadtest/nearest", "manifest"},
	"loadtest/nearest":              {},
	"loadtest/images":               {"loadtest", "loadtest/hub", "loadtest/line", "manifest"},
	"loadtest/line":                 {},
	"loadtest/hub":                  {"loadtest/line", "manifest"},
	"loadtest/bucket":               {"loadtest/line"},
	"loadtest/child":                {},
	"loadtest/target":               {"loadtest", "loadtest/child", "manifest"},
	"loadtest/lab":                  {"loadtest", "loadtest/bucket", "loadtest/child", "loadtest/hub", "loadtest/images", "loadtest/target", "manifest"},
	"loadtest/report":               {"loadtest", "manifest"},
	"cmd/registryd": {"blobcache", "loadtest", "loadtest/bucket", "loadtest/child", "loadtest/hub", "loadtest/images", "loadtest/lab", "loadtest/nearest", "loadtest/report",
		"loadtest/target", "manifest", "registryd", "registryd/archive", "registryd/notify", "registryd/upstream", "s3store", "systemd"},
	"cmd/testdeps":          {"cmd/testdeps/need"},
	"cmd/testdeps/need":     {},
	"cmd/registryd/clients": {},
}

// TestImportsGoOneWay also asks for a package comment, which is where a reader
// begins.
func TestImportsGoOneWay(t *testing.T) {
	comment := map[string]bool{}
	eachFile(t, func(dir string, f *ast.File) {
		comment[dir] = comment[dir] || f.Doc != nil
		for _, spec := range f.Imports {
			name, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "hostlocal/")
			if allowed, known := mayImport[dir]; ours && (!known || !slices.Contains(allowed, name)) {
				t.Errorf("%s imports %s, which is not among what it may know", dir, name)
			}
		}
	})
	for dir, has := range comment {
		if !has {
			t.Errorf("package %s has no comment", dir)
		}
	}
}

// eachFile calls f for all Go files of the module but tests.
func eachFile(t *testing.T, f func(dir string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(moduleRoot, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != moduleRoot && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		dir, err := filepath.Rel(moduleRoot, filepath.Dir(name))
		if err != nil || dir == "." {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err == nil {
			f(filepath.ToSlash(dir), file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryDependencyHasItsReason finds what go.mod requires directly and DESIGN.md
// does not explain.
func TestEveryDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(moduleRoot, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	design, err := os.ReadFile(filepath.Join(moduleRoot, "DESIGN.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(design), "## Dependencies")
	if !ok {
		t.Fatal("DESIGN.md has no chapter on dependencies")
	}
	for line := range strings.Lines(string(mod)) {
		module, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(version, "v") || strings.Contains(version, "// indirect") {
			continue
		}
		if !strings.Contains(table, shortName(module)) {
			t.Errorf("%s is required, and DESIGN.md does not say why (%s)", module, shortName(module))
		}
	}
}

// shortName is how a person names a module: "minio-go", "x/sys".
func shortName(module string) string {
	parts := strings.Split(module, "/")
	if parts[0] == "golang.org" {
		return path.Join(parts[1:]...)
	}
	if len(parts) > 3 && parts[1] == "aws" {
		return parts[2] // one repository of many modules
	}
	if last := parts[len(parts)-1]; strings.Trim(last, "0123456789") == "v" {
		parts = parts[:len(parts)-1]
	}
	return parts[len(parts)-1]
}
