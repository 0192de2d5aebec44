package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// BenchmarkWarm asks the daemon, nginx and a bare net/http server, each in a
// process of its own, for the same files over 32 connections. What is promised, as
// parts of what the other does in requests a second:
//
//	manifest   by tag, at least 0.85 of nginx
//	blob64K    at least 0.95 of net/http writing from memory
//	blob512M   at most as much CPU time a GiB as nginx; small: 64 MiB
//
// "cpu" is the contender's CPU time over the daemon's: a client on the same machine
// and whatever else runs there do not show in it.
func BenchmarkWarm(b *testing.B) {
	h := hubtest.New(b)
	large := sized[int64](64<<20, 512<<20)
	img := h.AddImage("library/app", "v1", h.Layer(64<<10), h.Layer(large))
	p := newTester(b).started(h)
	files := p.warm(img)
	ours := contender{"registryd", p.address, func() []int { return []int{p.cmd.Process.Pid} }}

	b.Run("manifest", func(b *testing.B) {
		compare(b, []contender{ours, nginx(b, files), bare(b, files[:2])},
			flood{files[0].path, sized(5_000, 40_000), int64(len(img.Body))})
	})
	b.Run("blob64K", func(b *testing.B) {
		compare(b, []contender{ours, nginx(b, files), bare(b, files[:2])},
			flood{files[1].path, sized(5_000, 40_000), 64 << 10})
	})
	b.Run(fmt.Sprintf("blob%dM", large>>20), func(b *testing.B) {
		compare(b, []contender{ours, nginx(b, files)}, flood{files[2].path, 32, large})
	})
}

// warm pulls the image into the daemon, and returns where its manifest and its
// layers are to be had, and in which files they lie.
func (p *process) warm(img hubtest.Image) []served {
	p.Helper()
	const repo = "/v2/hub.test/library/app"
	files := []served{{path: repo + "/manifests/v1", file: p.blobFile(img.Digest), mediaType: img.MediaType}}
	check(p, flood{files[0].path, connections, int64(len(img.Body))}.run(p.address))
	for _, l := range img.Layers {
		f := served{repo + "/blobs/" + l.Digest.String(), p.blobFile(l.Digest), "application/octet-stream"}
		check(p, flood{f.path, 1, l.Size}.run(p.address))
		files = append(files, f)
	}
	for _, f := range files { // the last byte comes a little before the file
		p.settles("file "+f.file, func() bool { _, err := os.Stat(f.file); return err == nil })
	}
	return files
}

// blobFile is where the daemon keeps a complete blob.
func (p *process) blobFile(d manifest.Digest) string {
	return filepath.Join(p.dir, "cache/blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// compare floods the contenders, the first of which is the daemon, and reports what
// it does and how that compares with each of the others.
func compare(b *testing.B, all []contender, f flood) {
	turns := rounds(b, all, f.run)
	ours := turns[all[0].name]
	n := len(ours)
	work, unit := float64(f.requests), "req"
	if f.size >= 1<<20 {
		work, unit = work*float64(f.size)/(1<<30), "GiB"
	}
	b.ReportMetric(middle(n, func(i int) float64 { return work / ours[i].wall.Seconds() }), unit+"/s")
	b.ReportMetric(middle(n, func(i int) float64 { return ours[i].cpu.Seconds() / work * 1e6 }), "cpu-µs/"+unit)
	for _, c := range all[1:] {
		theirs := turns[c.name]
		reportRatio(b, "of-"+c.name, n, func(i int) float64 { return ratio(theirs[i].wall, ours[i].wall) })
		reportRatio(b, "cpu-of-"+c.name, n, func(i int) float64 { return ratio(theirs[i].cpu, ours[i].cpu) })
	}
}

// ratio is a/b of times that are measured in ticks.
func ratio(a, b time.Duration) float64 { return a.Seconds() / max(b, 10*time.Millisecond).Seconds() }
