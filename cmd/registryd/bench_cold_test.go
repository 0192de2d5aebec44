package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// BenchmarkColdFromBucket gets a blob that only the bucket has, by the daemon in a
// process of its own, from a store that is as fast as S3: 30 ms to the first byte,
// 85 MiB/s a connection. In the same round the blob is got by one plain GET, and
// memory is hashed, which is the floor for whoever has to verify in one sequence.
// What is promised is the lower of 10 times the GET and 0.8 of the hash; "of-promise"
// is at least 1 then. Small: 64 MiB instead of 512.
func BenchmarkColdFromBucket(b *testing.B) {
	size := sized[int64](64<<20, 512<<20)
	s3 := s3test.New(b)
	s3.SetModel(s3test.S3Model)
	p := newTester(b).startedOn(hubtest.New(b), s3Bucket{s3, "minio"})
	var ours, plain, hash []time.Duration
	for b.Loop() {
		b.StopTimer()
		tag := fmt.Sprint("v", len(ours))
		d, body := ownImage(s3, "team/app", tag, byte(len(ours)), size)
		check(b, fetch("http://"+p.address+"/v2/team/app/manifests/"+tag, int64(len(body)))) // as every client does first
		b.StartTimer()
		ours = append(ours, took(b, func() error { return fetch("http://"+p.address+"/v2/team/app/blobs/"+d.String(), size) }))
		b.StopTimer()
		plain = append(plain, took(b, func() error { return fetchSigned(s3.URL+"/"+s3test.Bucket+"/"+blobKey(d), size) }))
		hash = append(hash, took(b, func() error { return hashOnly(size) }))
		b.StartTimer()
	}
	n := len(ours)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(n, func(i int) float64 { return float64(size) / (1 << 20) / ours[i].Seconds() }), "MiB/s")
	reportRatio(b, "of-GET", n, func(i int) float64 { return ratio(plain[i], ours[i]) })
	reportRatio(b, "of-sha256", n, func(i int) float64 { return ratio(hash[i], ours[i]) })
	reportRatio(b, "of-promise", n, func(i int) float64 { return max(ratio(plain[i]/10, ours[i]), ratio(hash[i]*10/8, ours[i])) })
}

// BenchmarkColdFromUpstream gets a blob that only the upstream has, whose one
// connection is the bound, by the daemon and directly. It is promised at the
// upstream's speed, and its first byte within 2 ms of the upstream's own.
func BenchmarkColdFromUpstream(b *testing.B) {
	size := sized[int64](16<<20, 256<<20)
	h := hubtest.New(b)
	h.Fault(hubtest.Blobs(), hubtest.Rate(85<<20))
	p := newTester(b).started(h)
	var ours, direct, first []time.Duration
	for b.Loop() {
		b.StopTimer()
		img := h.AddImage("library/app", fmt.Sprint("v", len(ours)), h.Layer(size))
		path := "/v2/library/app/blobs/" + img.Layers[0].Digest.String()
		check(b, fetch("http://"+p.address+"/v2/hub.test/library/app/manifests/"+img.Tag, int64(len(img.Body))))
		b.StartTimer()
		own, all := timedFetch(b, "http://"+p.address+"/v2/hub.test"+path[len("/v2"):], size)
		b.StopTimer()
		its, alone := timedFetch(b, h.URL+path, size)
		ours, direct, first = append(ours, all), append(direct, alone), append(first, own-its)
		b.StartTimer()
	}
	n := len(ours)
	b.ReportMetric(0, "ns/op")
	reportRatio(b, "of-direct", n, func(i int) float64 { return ratio(direct[i], ours[i]) })
	reportRatio(b, "ms-later", n, func(i int) float64 { return first[i].Seconds() * 1e3 })
}

// BenchmarkColdToBucket gets a blob of 512 MiB (small: 64) that only the upstream has, and
// waits until the bucket has it as well: the whole of what the first host of a fleet does.
// What is reported is the daemon's CPU time.
func BenchmarkColdToBucket(b *testing.B) {
	size := sized[int64](64<<20, 512<<20)
	h, s3 := hubtest.New(b), s3test.New(b)
	s3.SetModel(s3test.Model{Sink: true})
	p := newTester(b).startedOn(h, s3Bucket{s3, "minio"})
	var all time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		img := h.AddImage("library/app", fmt.Sprint("v", n), h.Layer(size))
		check(b, fetch("http://"+p.address+"/v2/hub.test/library/app/manifests/"+img.Tag, int64(len(img.Body))))
		n++
		begun := cpuOf(b, []int{p.cmd.Process.Pid})
		b.StartTimer()
		check(b, fetch("http://"+p.address+"/v2/hub.test/library/app/blobs/"+img.Layers[0].Digest.String(), size))
		p.settles("the bucket to have it", func() bool { return s3.Count("complete_multipart") >= n })
		b.StopTimer()
		all += cpuOf(b, []int{p.cmd.Process.Pid}) - begun
		b.StartTimer()
	}
	b.ReportMetric(all.Seconds()/float64(n)/(float64(size)/(1<<30)), "cpu-s/GiB")
}

// ownImage puts an image of one layer into the bucket, in a repository of its own,
// and returns the layer's digest and the manifest.
func ownImage(s *s3test.Server, repo, tag string, fill byte, size int64) (layer manifest.Digest, body []byte) {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = fill + byte(i>>8)
	}
	sum := sha256.New()
	for off := int64(0); off < size; off += int64(len(block)) {
		sum.Write(block[:min(int64(len(block)), size-off)])
	}
	layer = manifest.SHA256.Sum(sum)
	config := []byte("{}")
	body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		manifest.OCIManifest, manifest.DigestOf(config), len(config), layer, size)
	d := manifest.DigestOf(body)
	root := "docker/registry/v2/repositories/" + repo + "/"
	s.PutRepeated(blobKey(layer), block, size)
	s.Put(blobKey(manifest.DigestOf(config)), config)
	s.Put(blobKey(d), body)
	for _, l := range []manifest.Digest{layer, manifest.DigestOf(config)} {
		s.Put(root+"_layers/sha256/"+l.Hex()+"/link", []byte(l.String()))
	}
	s.Put(root+"_manifests/revisions/sha256/"+d.Hex()+"/link", []byte(d.String()))
	s.Put(tagKey(repo, tag), []byte(d.String()))
	return layer, body
}

// fetch gets all of a body of size bytes, as a client does that writes it somewhere.
func fetch(url string, size int64) error {
	_, err := firstAndAll(url, size)
	return err
}

// fetchSigned is fetch from the fake S3, which wants to see a key.
func fetchSigned(url string, size int64) error {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s3test.AccessKey+"/")
	_, err = do(req, size)
	return err
}

func firstAndAll(url string, size int64) (time.Time, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return time.Time{}, err
	}
	return do(req, size)
}

// do sends the request and reads the body. It returns when its first byte came.
func do(req *http.Request, size int64) (first time.Time, err error) {
	resp, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true, ReadBufferSize: 64 << 10}).RoundTrip(req)
	if err != nil {
		return first, err
	}
	defer resp.Body.Close()
	buf := make([]byte, 256<<10)
	var got int64
	for {
		n, err := resp.Body.Read(buf)
		if got == 0 && n > 0 {
			first = time.Now()
		}
		got += int64(n)
		if err == io.EOF && got == size && resp.StatusCode == http.StatusOK {
			return first, nil
		}
		if err != nil {
			return first, fmt.Errorf("%s: %s, %d bytes of %d: %w", req.URL, resp.Status, got, size, err)
		}
	}
}

// timedFetch returns how long the first byte took, and the last.
func timedFetch(b *testing.B, url string, size int64) (first, all time.Duration) {
	b.Helper()
	begun := time.Now()
	at, err := firstAndAll(url, size)
	check(b, err)
	return at.Sub(begun), time.Since(begun)
}

// hashOnly hashes size bytes of memory that no cache holds, and writes nothing.
func hashOnly(size int64) error {
	sum, block := sha256.New(), make([]byte, 64<<20)
	for ; size > 0; size -= int64(len(block)) {
		sum.Write(block[:min(size, int64(len(block)))])
	}
	return nil
}
