package blobcache

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// publishedCacheDir names, in the environment of a test process started again under
// strace, the folder in which it is to publish one blob.
const publishedCacheDir = "BLOBCACHE_TEST_PUBLISHED_CACHE"

// TestPublishOrderSurvivesAPowerLoss looks at the system calls of one fill: what a
// power loss leaves depends on nothing else. The bytes and the seal are synced
// before the name is given, the name before anybody is told; and the map of what has
// landed stays until then, for a kill during the sync.
func TestPublishOrderSurvivesAPowerLoss(t *testing.T) {
	if dir := os.Getenv(publishedCacheDir); dir != "" {
		h := &tester{TB: t, dir: dir, results: make(chan string, 10)}
		h.opt = Options{Budget: 64 * mib, ScrubRate: -1, Log: slog.New(slog.DiscardHandler)}
		h.start()
		o := newOrigin(mib, 4000)
		got, err := h.pull(o)
		h.wantRight(o, got, err)
		h.wantPresent(o)
		h.Close()
		return
	}
	strace := need.Binary(t, "strace")
	dir := filepath.Join(t.TempDir(), "cache")
	trace := filepath.Join(t.TempDir(), "trace")
	// Go's signals would cut lines in two.
	cmd := exec.Command(strace, "-f", "-y", "-s", "300", "-o", trace, "-e", "signal=none", "-e", "trace=fchmod,utimensat,futimesat,utimes,fsync,rename,renameat,renameat2,unlink,unlinkat", os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), publishedCacheDir+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "ptrace") {
			need.Missing(t, "ptrace", "strace may not trace a process here; run the tests where it may (a container needs --cap-add SYS_PTRACE)")
		}
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	hex := newOrigin(mib, 4000).digest.Hex()
	rest := string(b)
	for _, step := range []struct{ what, call string }{
		{"the mode of the seal", `fchmod\(\d+<[^>]*partial/sha256-` + hex + `>, 0444\)`},
		{"the time of the seal", `(utimensat|futimesat|utimes)\([^\n]*`},
		{"the sync of the bytes", `fsync\(\d+<[^>]*partial/sha256-` + hex + `>`},
		{"the name", `rename[^\n]*partial/sha256-` + hex + `", [^\n]*blobs/sha256/` + hex[:2] + `/` + hex + `"[^\n]*= 0`},
		{"the sync of the name", `fsync\(\d+<[^>]*blobs/sha256/` + hex[:2] + `>`},
		{"the end of the map", `unlink[^\n]*` + hex + `\.map"`},
	} {
		at := regexp.MustCompile(step.call).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("%s is missing, or comes too early; what follows the step before:\n%s", step.what, head(rest, 30))
		}
		rest = rest[at[1]:]
	}
}

func head(s string, lines int) string {
	l := strings.SplitN(s, "\n", lines+1)
	return strings.Join(l[:min(lines, len(l))], "\n")
}
