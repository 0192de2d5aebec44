package manifest_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "hostlocal"

// mayImport is the drawing "who knows whom" of the architecture: the packages of
// ours that each package may import, its subpackages as well. Whoever is not here
// may import none.
var mayImport = map[string][]string{
	"manifest":           {},
	"systemd":            {},
	"blobcache":          {"manifest"},
	"s3store":            {"manifest"},
	"registryd/upstream": {"manifest"},
	"registryd":          {"manifest", "blobcache", "registryd/upstream"},
	"warmup":             {"manifest"},
	"loadtest":           {"manifest"},
	"cmd":                {"manifest", "systemd", "blobcache", "s3store", "registryd", "registryd/upstream", "warmup", "loadtest"},
}

// A goPackage is what go list tells of one.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// owner returns the entry of mayImport that an import path belongs to, the longest.
func owner(path string) string {
	rel := strings.TrimPrefix(path, module+"/")
	best := ""
	for name := range mayImport {
		if (rel == name || strings.HasPrefix(rel, name+"/")) && len(name) > len(best) {
			best = name
		}
	}
	return best
}

func TestPackagesImportOnlyWhomTheyMayKnow(t *testing.T) {
	for _, p := range packages(t) {
		from := owner(p.ImportPath)
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			if to := owner(imported); to == "" || to != from && !slices.Contains(mayImport[from], to) {
				t.Errorf("%s imports %s; if that is wanted, say so in the architecture and in mayImport", p.ImportPath, imported)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		documented := len(p.GoFiles) == 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
		}
		if !documented {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
