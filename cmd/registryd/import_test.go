package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/manifest"
	"hostlocal/registryd/archive"
	"hostlocal/registryd/archive/archivetest"
	"hostlocal/s3store/s3test"
)

// makeArchive is a script's command.
func makeArchive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: archive docker|tar|layout|damaged PATH NAME SIZE...")
	}
	kind, path, name := args[0], ts.MkAbs(args[1]), args[2]
	var sizes []int64
	for _, arg := range args[3:] {
		n, err := parseSize(arg)
		ts.Check(err)
		sizes = append(sizes, n.bytes)
	}
	ts.Check(writeArchive(kind, path, name, archivetest.New(uint64(len(path)), sizes...)))
}

// writeArchive makes an archive of a kind.
func writeArchive(kind, path, name string, img archivetest.Image) error {
	switch kind {
	case "docker":
		return archivetest.WriteTar(path, archivetest.Docker(img, name))
	case "damaged":
		files := archivetest.Docker(img, name)
		files[1].Body[len(files[1].Body)/2] ^= 1
		return archivetest.WriteTar(path, files)
	}
	l := archivetest.NewLayout()
	d := l.Image(img, manifest.SHA256, nil)
	if name == "" {
		l.Name(d)
	} else {
		l.Name(d, "org.opencontainers.image.ref.name", strings.TrimPrefix(name, ":"))
	}
	if kind == "tar" {
		return archivetest.WriteTar(path, l.Files())
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return archivetest.WriteFolder(path, l.Files())
}

// An importer runs registryd import as a process of its own, on a host's bucket.
type importer struct {
	*host
	home string
}

func newImporter(t *testing.T, options ...func(*host)) *importer {
	h := newHost(t, options...)
	h.up.Down()
	return &importer{h, t.TempDir()}
}

// command is one call that has not begun.
func (i *importer) command(args ...string) *exec.Cmd {
	i.Helper()
	binary, err := exec.LookPath("registryd") // testscript has put it there
	check(i, err)
	cmd := exec.Command(binary, append([]string{"import", "--config", i.cfg}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+i.home, "XDG_STATE_HOME=", "TMPDIR="+i.home)
	return cmd
}

// run is a call that must end with the status, and returns what it said.
func (i *importer) run(status int, args ...string) string {
	i.Helper()
	cmd := i.command(args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != status {
		i.Fatalf("import %q ended with %d, want %d, and said\n%s", args, got, status, out)
	}
	return string(out)
}

// archive writes an archive of a kind.
func (i *importer) archive(kind, name string, sizes ...int64) (path string, img archivetest.Image) {
	i.Helper()
	path, img = filepath.Join(i.home, kind), archivetest.New(7, sizes...)
	check(i, writeArchive(kind, path, name, img))
	return path, img
}

// wantServed pulls the image from the daemon, and from the daemon of another host.
func (i *importer) wantServed(name string, img archivetest.Image) {
	i.Helper()
	for _, h := range []*host{i.host, i.neighbour()} {
		p := h.pull(name)
		for _, b := range append(img.Layers, img.Config) {
			if n := p.bytes[manifest.DigestOf(b)]; n != int64(len(b)) {
				i.Errorf("%s: a blob of %d bytes came with %d", name, len(b), n)
			}
		}
	}
}

func wantSaid(t testing.TB, said string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("it said\n%s\nwithout %q", said, w)
		}
	}
}

func TestImportedImageIsServedWithoutItsUpstream(t *testing.T) {
	t.Parallel()
	for _, b := range buckets {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			i := newImporter(t, b.on)
			path, img := i.archive("docker", "app:v1", 9<<20, 300)
			i.run(0, path)
			i.wantServed("library/app:v1", img)
		})
	}
}

// A kill at a moment when parts of a blob are in the bucket: the next call sends the
// others, and nothing stays behind.
func TestKilledImportGoesOn(t *testing.T) {
	i := newImporter(t, onS3("minio"))
	s := i.bucket.(s3Bucket).Server
	const parts = 3 + partsAtOnce
	path, img := i.archive("tar", "docker.io/team/app:v1", parts*partSize-5000)
	log := logParts(s, func(number int) bool { return number > 3 })
	cmd := i.command(path)
	check(t, cmd.Start())
	i.await("the parts", func() bool { return log.came(1, parts) })
	check(t, cmd.Process.Kill())
	cmd.Wait()
	if i.bucket.hasTag("docker.io/team/app", "v1") {
		t.Error("there is a tag")
	}
	log.release()
	i.run(0, path)
	if n := log.count(func(number int) bool { return number <= 3 }); n != 3 {
		t.Errorf("parts 1 to 3 were sent %d times", n)
	}
	i.wantNoUploads(s)
	i.wantServed("team/app:v1", img)
	calls := logCalls(s) // but those of the neighbour's probe
	wantSaid(t, i.run(0, path), "the bucket had all its blobs")
	for _, c := range calls.about("") {
		if op, _, _ := strings.Cut(c, " "); op == "put" || op == "upload_part" || op == "create_multipart" {
			t.Errorf("a third import wrote: %s", c)
		}
	}
}

func TestInterruptedImportSaysHowToGoOn(t *testing.T) {
	i := newImporter(t, onS3("minio"))
	s := i.bucket.(s3Bucket).Server
	first, _ := i.archive("docker", "first:v1", 300)
	path, img := i.archive("tar", "docker.io/team/app:v1", (1+partsAtOnce)*partSize)
	log := logParts(s, func(number int) bool { return number > 1 })
	var said bytes.Buffer
	cmd := i.command(first, path)
	cmd.Stdout, cmd.Stderr = &said, &said
	check(t, cmd.Start())
	i.await("the parts", func() bool { return log.came(1, 1+partsAtOnce) })
	check(t, cmd.Process.Signal(os.Interrupt))
	if cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	wantSaid(t, said.String(), "imported  docker.io/library/first:v1", "1 of 2 images are in", "type the same again to go on")
	log.release()
	i.run(0, first, path)
	if n := log.count(func(number int) bool { return number == 1 }); n != 1 {
		t.Errorf("part 1 was sent %d times", n)
	}
	i.wantServed("team/app:v1", img)
}

func TestImportIntoABucketThatMayOnlyBeRead(t *testing.T) {
	t.Parallel()
	i := newImporter(t, onS3("aws"))
	s := i.bucket.(s3Bucket).Server
	path, _ := i.archive("docker", "app:v1", 300)
	s.SetQuirks(s3test.Quirks{ReadOnly: true})
	wantSaid(t, i.run(1, path), "give it credentials that may write", "nothing was imported")
	s.SetQuirks(s3test.Quirks{})
	i.run(0, path)
	s.SetQuirks(s3test.Quirks{ReadOnly: true})
	wantSaid(t, i.run(0, path), "the bucket had all its blobs") // which needs no right to write
}

func TestHostsMayImportTheSameAtOnce(t *testing.T) {
	t.Parallel()
	for _, b := range buckets {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			i := newImporter(t, b.on)
			path, img := i.archive("docker", "app:v1", 20<<20, 300, 9<<20)
			var running []*exec.Cmd
			for range 3 {
				other := &importer{i.host, t.TempDir()}
				running = append(running, other.command(path))
			}
			running = append(running, i.command(path), i.command(path)) // two on one host
			for _, cmd := range running {
				check(t, cmd.Start())
			}
			for _, cmd := range running {
				check(t, cmd.Wait())
			}
			i.wantServed("library/app:v1", img)
		})
	}
}

// What real tools write, each from the same image.
func TestImportOfWhatToolsWrite(t *testing.T) {
	t.Parallel()
	skopeo := need.Binary(t, "skopeo")
	i := newImporter(t)
	layout, img := i.archive("layout", ":v1", 70_000, 300)
	for name, to := range map[string]string{
		"docker-archive": "docker-archive:%s:docker.io/library/app:%s",
		"oci-archive":    "oci-archive:%s:docker.io/library/app:%s",
		"oci":            "oci:%s:docker.io/library/app:%s",
	} {
		path := filepath.Join(i.home, name)
		out, err := exec.Command(skopeo, "--insecure-policy", "copy", "oci:"+layout+":v1", fmt.Sprintf(to, path, name)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		wantSaid(t, i.run(0, path), "docker.io/library/app:"+name)
		p := i.pull("library/app:" + name)
		if n := p.bytes[manifest.DigestOf(img.Config)]; n != int64(len(img.Config)) {
			t.Errorf("%s: the config came with %d bytes", name, n)
		}
	}
	podman := need.Binary(t, "podman")
	need.Root(t)
	storage := []string{"--root", filepath.Join(i.home, "storage"), "--runroot", filepath.Join(i.home, "run"), "--storage-driver", "vfs"}
	do := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(podman, append(slices.Clone(storage), args...)...).CombinedOutput(); err != nil {
			t.Fatalf("podman %q: %v: %s", args, err, out)
		}
	}
	do("load", "-i", filepath.Join(i.home, "docker-archive"))
	do("tag", "docker.io/library/app:docker-archive", "docker.io/team/app:podman")
	for _, format := range []string{"docker-archive", "oci-archive"} {
		path := filepath.Join(i.home, "podman-"+format)
		do("save", "--format", format, "-o", path, "docker.io/team/app:podman")
		wantSaid(t, i.run(0, path), "docker.io/team/app:podman")
		i.pull("team/app:podman")
	}
}

func TestImportScreen(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	at := archive.Standing{Image: "docker.io/library/debian:12", Number: 2, Images: 5, Total: 400 << 20, Done: 100 << 20, Sent: 50 << 20, Began: now.Add(-10 * time.Second)}
	var b bytes.Buffer
	(&importScreen{w: &b}).show(at, now)
	if want := "[2/5] docker.io/library/debian:12: 100MiB of 400MiB, 5.0 MiB/s, 1m0s to go\n"; b.String() != want {
		t.Errorf("got %q, want %q", &b, want)
	}
	b.Reset()
	(&importScreen{&b, 60}).show(at, now)
	if want := "\r███············ 100MiB of 400MiB, 5.0 MiB/s, 1m0s to go  [2"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("got %q, want %q", &b, want)
	}
	if n := len([]rune(b.String())) - len("\r\x1b[K"); n != 59 {
		t.Errorf("the line takes %d columns of 60", n)
	}
	at.Check, at.Checked, at.Began = 10<<20, 5<<20, time.Time{}
	b.Reset()
	(&importScreen{w: &b}).show(at, now)
	wantSaid(t, b.String(), "checking, 5MiB of 10MiB")
}
