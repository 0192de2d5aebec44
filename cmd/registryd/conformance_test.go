package main

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// conformant is what the specification's own tests are asked to test: its coming
// version with all that it lets a registry leave out.
var conformant = []string{"OCI_VERSION=dev", "OCI_TLS=disabled", "OCI_LOG=error"}

// TestConformsToTheSpecification runs the distribution specification's conformance
// tests against the daemon: nothing may fail, nothing may be left out. Sparse images go
// to one that takes them: where references are checked, one whose layers are missing is
// refused.
func TestConformsToTheSpecification(t *testing.T) {
	suite := need.Binary(t, "conformance")
	for _, b := range buckets {
		t.Run(b.name, func(t *testing.T) {
			if testing.Short() && b.name != "aws" {
				t.Skip("a thousand requests on each kind of bucket")
			}
			// leastChecks is how many there have to be, so that a run which found nothing to
			// check does not pass.
			sparse, leastChecks := "false", 980
			h := newHost(t, b.on, mayPush, func(h *host) {
				if b.name == "folder" {
					sparse, h.checks, leastChecks = "true", "none", 1020
				}
			})
			results := t.TempDir()
			cmd := exec.Command(suite)
			cmd.Env = append(append(os.Environ(), conformant...), "OCI_DATA_SPARSE="+sparse, "OCI_RESULTS_DIR="+results, "OCI_REGISTRY="+strings.TrimPrefix(h.url, "http://"))
			out, failed := cmd.CombinedOutput()
			var report struct {
				Suite struct {
					Tests    int `xml:"tests,attr"`
					Failures int `xml:"failures,attr"`
					Skipped  int `xml:"skipped,attr"`
					Cases    []struct {
						Name   string `xml:"name,attr"`
						Status string `xml:"status,attr"`
						Said   string `xml:"system-err"`
					} `xml:"testcase"`
				} `xml:"testsuite"`
			}
			body, err := os.ReadFile(filepath.Join(results, "junit.xml"))
			if err == nil {
				err = xml.Unmarshal(body, &report)
			}
			if err != nil {
				t.Fatalf("%v; it said\n%s", err, out)
			}
			s := report.Suite
			t.Logf("%d checks, %d failed, %d left out", s.Tests, s.Failures, s.Skipped)
			for _, c := range s.Cases {
				if c.Status != "passed" {
					t.Errorf("%s: %s\n%s", c.Name, c.Status, c.Said)
				}
			}
			if failed != nil || s.Failures > 0 || s.Skipped > 0 || s.Tests < leastChecks {
				t.Errorf("%d of %d checks failed and %d were left out: %v", s.Failures, s.Tests, s.Skipped, failed)
			}
		})
	}
}
