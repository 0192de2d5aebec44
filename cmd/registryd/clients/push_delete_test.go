package clients

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// A deleter is a client's way to delete what a tag stands for.
type deleter struct {
	name    string
	tagOnly bool // other tags and the manifest itself stay
	delete  func(ref string) (printed string, err error)
	tags    func(repo string) (printed string, err error) // nil: it cannot list
}

func deleters(t *testing.T) []deleter {
	t.Helper()
	root := newerRoot(t)
	regctl := startRegctl(t)
	crane := inRoot(t, "", nil, need.Binary(t, "crane"), "--insecure")
	oras := inRoot(t, root, nil, "/usr/bin/oras")
	skopeo := func(root, path string) (remove, tags func(string) (string, error)) {
		run := inRoot(t, root, trust(t), path)
		return func(ref string) (string, error) { return run("delete", "--tls-verify=false", "docker://"+ref) },
			func(repo string) (string, error) { return run("list-tags", "--tls-verify=false", "docker://"+repo) }
	}
	oldDelete, oldTags := skopeo("", need.Binary(t, "skopeo"))
	newDelete, newTags := skopeo(root, "/usr/bin/skopeo")
	return []deleter{
		{"regctl-tag", true, func(ref string) (string, error) { return regctl("tag", "delete", ref) },
			func(repo string) (string, error) { return regctl("tag", "ls", repo) }},
		{"regctl-manifest", false, func(ref string) (string, error) { return regctl("manifest", "delete", "--force-tag-dereference", ref) }, nil},
		{"skopeo-old", false, oldDelete, oldTags},
		{"skopeo-new", false, newDelete, newTags},
		{"crane", true, func(ref string) (string, error) { return crane("delete", ref) },
			func(repo string) (string, error) { return crane("ls", repo) }},
		{"oras", false, func(ref string) (string, error) { return oras("manifest", "delete", "--plain-http", "--force", ref) },
			func(repo string) (string, error) { return oras("repo", "tags", "--plain-http", repo) }},
	}
}

// TestClientsDeleteWhatTheyPushed deletes through one daemon what the other one has
// served a moment before, and pushes it again.
func TestClientsDeleteWhatTheyPushed(t *testing.T) {
	inNamespaces(t)
	clients := deleters(t)
	f := startFleet(t, "minio")
	crane := cranePusher(t)
	digests := map[string]string{} // by repository
	images := map[string]local{}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			repo := "team/" + c.name
			ref := f.here.addr + "/" + repo
			images[repo] = makeLocal(t, "hello from "+c.name, smallBulk, ref+":v1")
			digest := f.push(t, crane, images[repo], repo)
			digests[repo] = digest
			run(t, nil, "crane", "tag", "--insecure", ref+":v1", "v2")
			f.beside.wantStatus(t, repo, "v2", http.StatusOK)
			f.beside.wantTags(t, c, repo, "v1", "v2")

			if out, err := c.delete(ref + ":v1"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f.here.wantStatus(t, repo, "v1", http.StatusNotFound)
			f.beside.wantStatus(t, repo, "v1", http.StatusNotFound)
			if c.tagOnly {
				f.beside.wantStatus(t, repo, "v2", http.StatusOK)
				f.beside.wantStatus(t, repo, digest, http.StatusOK)
				f.beside.wantTags(t, c, repo, "v2")
				return
			}
			f.here.wantStatus(t, repo, digest, http.StatusNotFound)
			f.beside.wantStatus(t, repo, "v2", http.StatusNotFound)
			f.beside.wantTags(t, c, repo)
		})
	}
	for _, c := range clients {
		repo := "team/" + c.name
		if !c.tagOnly && digests[repo] != "" {
			f.beside.wantGone(t, repo, digests[repo])
		}
	}
	for repo, digest := range digests {
		if again := f.push(t, crane, images[repo], repo); again != digest {
			t.Errorf("%s pushed again is %s, was %s", repo, again, digest)
		}
		f.beside.pulledBy(t, crane, images[repo], repo, digest)
	}
}

// wantGone waits until the daemon does not serve a digest any more, which it does for
// as long as it saw it lately.
func (d *daemon) wantGone(t *testing.T, repo, digest string) {
	t.Helper()
	d.ready(func() error {
		if status, _ := d.manifest(t, repo, digest); status != http.StatusNotFound {
			return fmt.Errorf("%s@%s is still answered with %d", repo, digest, status)
		}
		return nil
	})
}

func (d *daemon) wantStatus(t *testing.T, repo, reference string, want int) {
	t.Helper()
	if status, _ := d.manifest(t, repo, reference); status != want {
		t.Errorf("%s/%s:%s is answered with %d, want %d", d.addr, repo, reference, status, want)
	}
}

// wantTags has the client list the repository, if it can.
func (d *daemon) wantTags(t *testing.T, c deleter, repo string, want ...string) {
	t.Helper()
	if c.tags == nil {
		return
	}
	out, err := c.tags(d.addr + "/" + repo)
	if err != nil {
		t.Errorf("listing the tags: %v\n%s", err, out)
	}
	for _, tag := range []string{"v1", "v2"} {
		listed, wanted := strings.Contains(out, tag), strings.Contains(strings.Join(want, " "), tag)
		if listed != wanted {
			t.Errorf("tag %s listed: %v, want %v\n%s", tag, listed, wanted, out)
		}
	}
}
