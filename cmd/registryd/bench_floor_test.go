package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/loadtest/bucket"
	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// What a push cannot do without is measured one by one, each in a process of its own
// that does nothing else: the program floor (floorMain).

// floorPart and floorAtOnce are how a raw upload is sent, as the SDKs' own transfer
// managers would with a little more courage: parts of the daemon's size, 8 at a time.
const (
	floorPart   = 16 << 20
	floorAtOnce = 8
)

// floorMain is the program floor WORK SIZE ARGS...: it does the work, and prints how
// many microseconds of wall and of CPU time that took.
//
//	upload ENDPOINT KEY FILE  the file as one object, in parts, by the driver that the daemon has
//	calls ENDPOINT NAME       all of the calls that so many small images need, some at once
//	hash                      sha256 of memory
//	receive ADDRESS           from a connection to whoever sends
//	write FILE                into a file
//	sync FILE                 into a file, and to the disk
func floorMain() {
	size, err := strconv.ParseInt(os.Args[2], 10, 64)
	args := os.Args[3:]
	var work func() error
	switch os.Args[1] {
	case "upload":
		work = func() error { return rawUpload(args[0], args[1], args[2], size) }
	case "calls":
		work = func() error { return callsOnly(args[0], args[1], int(size)) }
	case "hash":
		work = func() error { return hashPieces(size) }
	case "receive":
		work = func() error { return receiveOnly(args[0], size) }
	case "write", "sync":
		work = func() error { return writeOnly(args[0], size, os.Args[1] == "sync") }
	}
	begun, used := time.Now(), ownCPU()
	if err == nil {
		err = work()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
	fmt.Println(time.Since(begun).Microseconds(), (ownCPU() - used).Microseconds())
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for no process of one's own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// floor runs the program.
func floor(t testing.TB, work string, size int64, args ...string) turn {
	t.Helper()
	binary, err := exec.LookPath("floor") // testscript has put it there
	check(t, err)
	cmd := exec.Command(binary, append([]string{work, strconv.FormatInt(size, 10)}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	check(t, err)
	var wall, cpu int64
	if _, err := fmt.Sscan(string(out), &wall, &cpu); err != nil {
		t.Fatalf("floor %s said %q: %v", work, out, err)
	}
	return turn{time.Duration(wall) * time.Microsecond, time.Duration(cpu) * time.Microsecond}
}

func floorBucket(ctx context.Context, endpoint string) (s3store.Bucket, error) {
	return s3store.OpenBucket(ctx, s3store.Config{URL: "s3://" + s3test.Bucket, Endpoint: endpoint, Region: "us-east-1", Client: "minio",
		AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY")})
}

// callsOnly makes the calls that the pushes of BenchmarkPushSmall take, an image's one
// after the other: a look, the data and a link for each of its two blobs, then data and
// link of the manifest, and history and link of the tag.
func callsOnly(endpoint, name string, images int) error {
	ctx := context.Background()
	b, err := floorBucket(ctx, endpoint)
	if err != nil {
		return err
	}
	put := func(key string, body []byte) error {
		_, err := b.Put(ctx, key, bytes.NewReader(body), int64(len(body)), s3store.PutOptions{SHA256: manifest.DigestOf(body).Hex()})
		return err
	}
	link := make([]byte, 71)
	image := func(root string) error {
		for i, size := range []int64{300, smallLayer, 700} {
			key, body := fmt.Sprint(root, "data", i), newSmall(root, size)
			if i < 2 {
				if _, err := b.Stat(ctx, key); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s is there before its time: %w", key, err)
				}
			}
			if err := errors.Join(put(key, body), put(key+"/link", link)); err != nil {
				return err
			}
		}
		return errors.Join(put(root+"index", link), put(root+"current", link))
	}
	var all errgroup.Group
	all.SetLimit(smallAtOnce)
	for i := range images {
		all.Go(func() error { return image(fmt.Sprintf("raw/%s-%d/", name, i)) })
	}
	return all.Wait()
}

// rawUpload sends a file.
func rawUpload(endpoint, key, file string, size int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx := context.Background()
	b, err := floorBucket(ctx, endpoint)
	if err != nil {
		return err
	}
	id, err := b.CreateMultipart(ctx, key)
	if err != nil {
		return err
	}
	parts := make([]s3store.Part, (size+floorPart-1)/floorPart)
	var sends errgroup.Group
	sends.SetLimit(floorAtOnce)
	for i := range parts {
		sends.Go(func() error {
			off := int64(i) * floorPart
			n := min(floorPart, size-off)
			tag, err := b.UploadPart(ctx, key, id, i+1, io.NewSectionReader(f, off, n), n)
			parts[i] = s3store.Part{Number: i + 1, ETag: tag}
			return err
		})
	}
	if err := sends.Wait(); err != nil {
		return err
	}
	_, err = b.CompleteMultipart(ctx, key, id, parts, s3store.CompleteOptions{})
	return err
}

// floorBuffer is in what pieces the others work: they fit into a core's own cache.
const floorBuffer = 256 << 10

func hashPieces(size int64) error {
	sum, buf := sha256.New(), make([]byte, floorBuffer)
	for ; size > 0; size -= int64(len(buf)) {
		sum.Write(buf[:min(size, int64(len(buf)))])
	}
	return nil
}

func receiveOnly(address string, size int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, floorBuffer)
	for size > 0 {
		n, err := c.Read(buf)
		if size -= int64(n); err != nil && size > 0 {
			return err
		}
	}
	return nil
}

// floorReceive has the program receive size bytes.
func floorReceive(t testing.TB, size int64) turn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		block := make([]byte, 1<<20)
		for left := size; left > 0 && err == nil; left -= int64(len(block)) {
			_, err = c.Write(block[:min(left, int64(len(block)))])
		}
	}()
	return floor(t, "receive", size, l.Addr().String())
}

func writeOnly(file string, size int64, durable bool) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	buf := make([]byte, floorBuffer)
	for ; size > 0 && err == nil; size -= int64(len(buf)) {
		_, err = f.Write(buf[:min(size, int64(len(buf)))])
	}
	if durable {
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close())
}

// A tape is size bytes: a block again and again.
type tape struct {
	block []byte
	size  int64
	off   int64
}

func newTape(seed string, size int64) *tape {
	block := make([]byte, 1<<20)
	for i := 0; i < len(block); i += sha256.Size {
		sum := sha256.Sum256([]byte(seed + strconv.Itoa(i)))
		copy(block[i:], sum[:])
	}
	return &tape{block: block, size: size}
}

// Read implements io.Reader.
func (r *tape) Read(p []byte) (int, error) {
	if r.off == r.size {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.size-r.off)], r.block[r.off%int64(len(r.block)):])
	r.off += int64(n)
	return n, nil
}

// again is the same bytes from their start.
func (r *tape) again() *tape { return &tape{block: r.block, size: r.size} }

// file writes the bytes to a file.
func (r *tape) file(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	_, err = io.Copy(f, r.again())
	check(t, errors.Join(err, f.Sync(), f.Close()))
}

// A realBucket is a MinIO behind a line.
type realBucket struct {
	folderBucket // for what only tests of bytes ask
	proxy        *bucket.Proxy
}

const realSecret = "secret-of-the-bench"

// startMinio runs a MinIO with an empty bucket.
func startMinio(t testing.TB, binary string) realBucket {
	t.Helper()
	dir, address := t.TempDir(), unused(t)
	check(t, os.Mkdir(filepath.Join(dir, s3test.Bucket), 0o755))
	cmd := exec.Command(binary, "server", "--quiet", "--address", address, "--console-address", unused(t), dir)
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+s3test.AccessKey+"-user", "MINIO_ROOT_PASSWORD="+realSecret, "MINIO_UPDATE=off")
	startChild(t, cmd)
	for end := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/minio/health/ready")
		if err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("MinIO is not ready: %v", err)
		}
	}
	p, err := bucket.Start("http://"+address, bucket.Options{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return realBucket{proxy: p}
}

func (b realBucket) config() string {
	return fmt.Sprintf("  url: s3://%s\n  s3: {endpoint: %q, region: us-east-1, client: minio}", s3test.Bucket, b.proxy.URL)
}

func (b realBucket) credentials() (key, secret string) { return s3test.AccessKey + "-user", realSecret }

// line shapes the line from now on.
func (b realBucket) line(o bucket.Options) { b.proxy.SetShape(o) }

// stockOn runs the stock registry with the bucket, and returns where it listens.
func stockOn(t testing.TB, binary string, b realBucket) (address string) {
	t.Helper()
	address = unused(t)
	key, secret := b.credentials()
	file := filepath.Join(t.TempDir(), "config.yaml")
	check(t, os.WriteFile(file, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  s3: {accesskey: %s, secretkey: %s, region: us-east-1, regionendpoint: %q, bucket: %s, secure: false, forcepathstyle: true, rootdirectory: /stock}
  redirect: {disable: true}
http: {addr: %q}
`, key, secret, b.proxy.URL, s3test.Bucket, address), 0o600))
	cmd := exec.Command(binary, "serve", file)
	// Nothing of ours: it takes what begins with REGISTRY_ for its configuration.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "OTEL_TRACES_EXPORTER=none"}
	var said bytes.Buffer
	cmd.Stderr = &said
	startChild(t, cmd)
	for end := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return address
		}
		if time.Now().After(end) {
			t.Fatalf("the stock registry does not listen: %v; it said\n%s", err, &said)
		}
	}
}

// absolute is a Location as an address to send to.
func absolute(base, location string) string {
	if strings.HasPrefix(location, "/") {
		return base + location
	}
	return location
}
