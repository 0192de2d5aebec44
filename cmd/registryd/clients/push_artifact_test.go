package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Artifact types of the tests: a bill of materials by oras, a signature by regctl in
// the way of cosign's newer scheme.
const (
	billType = "application/vnd.test.bill"
	signType = "application/vnd.test.signature"
)

// TestArtifactsShowUpInReferrers attaches to an image through one daemon, with
// several clients, and looks through the other one.
func TestArtifactsShowUpInReferrers(t *testing.T) {
	inNamespaces(t)
	root := newerRoot(t)
	for _, kind := range []string{"folder", "minio", "versitygw"} {
		t.Run(kind, func(t *testing.T) {
			f := startFleet(t, kind)
			const repo = "team/signed"
			here, beside := f.here.addr+"/"+repo, f.beside.addr+"/"+repo
			l := makeLocal(t, "hello from an image with a signature", smallBulk, here+":v1")
			digest := f.push(t, cranePusher(t), l, repo)
			dir := scratch(t)
			write(t, dir, "bill.txt", "one busybox")
			write(t, dir, "sign.txt", "it is mine")
			oras := func(args ...string) string {
				t.Helper()
				args = append([]string{"-c", `cd "$0" && exec oras "$@"`, dir}, args...)
				return runIn(t, root, "/bin/sh", args...)
			}
			regctl := startRegctl(t)

			if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", beside+"@"+digest)); len(got) > 0 {
				t.Errorf("an image that nothing was attached to has %v", got)
			}
			oras("attach", "--plain-http", "--artifact-type="+billType, here+":v1", "bill.txt")
			if out, err := regctl("artifact", "put", "--artifact-type="+signType, "--subject="+here+":v1", "--file="+filepath.Join(dir, "sign.txt")); err != nil {
				t.Fatalf("regctl artifact put: %v\n%s", err, out)
			}

			want := []string{billType, signType}
			if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", beside+":v1")); !slices.Equal(got, want) {
				t.Errorf("oras discovers %v, want %v", got, want)
			}
			if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", "--artifact-type="+billType, beside+":v1")); !slices.Equal(got, want[:1]) {
				t.Errorf("oras discovers %v of type %s", got, billType)
			}
			out, err := regctl("artifact", "list", "--format=body", beside+":v1")
			if err != nil {
				t.Fatalf("regctl artifact list: %v\n%s", err, out)
			}
			if got := referrersBy(t, out); !slices.Equal(got, want) {
				t.Errorf("regctl lists %v, want %v", got, want)
			}

			// Cosign's older way is a tag that is made of the digest.
			sign := strings.Replace(digest, ":", "-", 1) + ".sig"
			run(t, nil, "crane", "append", "--insecure", "--oci-empty-base", "--new_layer="+tarOf(t, "sign"), "--new_tag="+here+":"+sign)
			if out, err := regctl("artifact", "tree", "--digest-tags", beside+":v1"); err != nil || !strings.Contains(out, sign) || !strings.Contains(out, signType) {
				t.Errorf("regctl artifact tree: %v\n%s", err, out)
			}

			// Whatever hangs on it goes along where the client is told so.
			oras("cp", "-r", "--from-plain-http", "--to-plain-http", beside+":v1", here+"-copy:v1")
			if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", beside+"-copy:v1")); !slices.Equal(got, want) {
				t.Errorf("the copy by oras has %v, want %v", got, want)
			}
			if out, err := regctl("image", "copy", "--referrers", "--digest-tags", beside+":v1", here+"-other:v1"); err != nil {
				t.Fatalf("regctl image copy: %v\n%s", err, out)
			}
			if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", beside+"-other:v1")); !slices.Equal(got, want) {
				t.Errorf("the copy by regctl has %v, want %v", got, want)
			}
			run(t, nil, "crane", "digest", "--insecure", beside+"-other:"+sign)

			bill := firstOf(t, oras("discover", "--plain-http", "--format=json", "--artifact-type="+billType, beside+":v1"))
			oras("pull", "--plain-http", "--output=pulled", beside+"@"+bill)
			if text, err := os.ReadFile(filepath.Join(dir, "pulled", "bill.txt")); err != nil || string(text) != "one busybox" {
				t.Errorf("the attached file is %q, %v", text, err)
			}
			oras("manifest", "delete", "--plain-http", "--force", here+"@"+bill)
			f.beside.ready(func() error {
				if got := referrersBy(t, oras("discover", "--plain-http", "--format=json", beside+":v1")); !slices.Equal(got, want[1:]) {
					return fmt.Errorf("still attached: %v", got)
				}
				return nil
			})
		})
	}
}

// runIn is run for a program of another root file system.
func runIn(t *testing.T, root, path string, args ...string) string {
	t.Helper()
	out, err := tryIn(t, root, nil, path, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", path, args, err, out)
	}
	return out
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tarOf is a tar of one small file.
func tarOf(t *testing.T, text string) string {
	t.Helper()
	dir := scratch(t)
	write(t, dir, "file", text)
	run(t, nil, "tar", "-C", dir, "-cf", filepath.Join(dir, "file.tar"), "file")
	return filepath.Join(dir, "file.tar")
}

type listed struct {
	Digest       string `json:"digest"`
	ArtifactType string `json:"artifactType"`
}

// list reads the referrers as oras shows them, or as the registry does.
func list(t *testing.T, printed string) []listed {
	t.Helper()
	var v struct {
		Referrers []listed `json:"referrers"`
		Manifests []listed `json:"manifests"`
	}
	if err := json.Unmarshal([]byte(printed), &v); err != nil {
		t.Fatalf("%v in\n%s", err, printed)
	}
	return append(v.Referrers, v.Manifests...)
}

// referrersBy are the artifact types in a list, sorted.
func referrersBy(t *testing.T, printed string) []string {
	t.Helper()
	var types []string
	for _, l := range list(t, printed) {
		types = append(types, l.ArtifactType)
	}
	slices.Sort(types)
	return types
}

func firstOf(t *testing.T, printed string) string {
	t.Helper()
	all := list(t, printed)
	if len(all) == 0 {
		t.Fatal("nothing is attached")
	}
	return all[0].Digest
}
