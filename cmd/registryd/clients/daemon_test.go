package clients

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// daemon is a registryd of the test, configured as a host would be.
type daemon struct {
	*process
	t      *testing.T
	addr   string // of the registry listener
	admin  string
	config string
	cache  string
	env    []string
}

// setup is what differs between the daemons of the tests.
type setup struct {
	host  int      // 0, 1: which of the fleet's hosts; each has its own ports and disk
	store string   // the store's part of the configuration; empty: a folder of its own
	own   string   // patterns of own repositories
	push  bool     // whether this host's programs may push
	open  bool     // whether it listens on all of the host's addresses
	env   []string // credentials of the bucket, say
}

// startDaemon runs registryd and waits until it says that it is ready.
func startDaemon(t *testing.T, s setup) *daemon {
	t.Helper()
	dir := scratch(t)
	d := &daemon{
		t:      t,
		addr:   fmt.Sprintf("127.0.0.1:%d", 5000+10*s.host),
		admin:  fmt.Sprintf("127.0.0.1:%d", 5001+10*s.host),
		config: filepath.Join(dir, "config.yaml"),
		cache:  filepath.Join(dir, "cache"),
		env:    append(trust(t), s.env...),
	}
	if s.store == "" {
		s.store = "{url: file://" + filepath.Join(dir, "store") + "}"
	}
	listen, push := d.addr, "off"
	if s.open {
		listen = strings.Replace(listen, "127.0.0.1", "", 1)
	}
	if s.push {
		push = "loopback"
	}
	text := fmt.Sprintf(`listen: %q
admin: %s
push: %s
own: [%s]
cache: {dir: %s, size: 2GiB, keep_free: 1%%}
store: %s
upstreams:
  docker.io:
    url: https://registry-1.docker.io
    hosts: [registry-1.docker.io, index.docker.io]
    tags: [{match: "*", policy: ttl, ttl: 1h}]
  ghcr.io:
    url: https://ghcr.io
    tags: [{match: "*", policy: ttl, ttl: 1h}]
default_upstream: docker.io
`, listen, d.admin, push, s.own, d.cache, s.store)
	if err := os.WriteFile(d.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run()
	return d
}

// run starts the daemon, the first time or again after a kill.
func (d *daemon) run() {
	d.t.Helper()
	d.process = start(d.t, d.env, filepath.Join(os.Getenv(workKey), "registryd"), "serve", "--config", d.config)
	d.ready(answers("http://" + d.admin + "/readyz"))
}

// metric is the sum of a metric's samples whose text contains every one of
// the labels, as `source="disk"`.
func (d *daemon) metric(name string, labels ...string) float64 {
	d.t.Helper()
	resp, err := http.Get("http://" + d.admin + "/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		sample, value, _ := strings.Cut(lines.Text(), " ")
		if sample != name && !strings.HasPrefix(sample, name+"{") {
			continue
		}
		matches := true
		for _, label := range labels {
			matches = matches && strings.Contains(sample, label)
		}
		if v, err := strconv.ParseFloat(value, 64); matches && err == nil {
			sum += v
		}
	}
	return sum
}

// wantFromDisk runs pull and fails the test unless at least size bytes of it
// came from this host's disk and not one from elsewhere.
func (d *daemon) wantFromDisk(size int64, pull func()) {
	d.t.Helper()
	disk := d.metric("registryd_served_bytes_total", `source="disk"`)
	all := d.metric("registryd_served_bytes_total")
	pull()
	// The last of a pull is counted a little after its client has it.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		fromDisk := d.metric("registryd_served_bytes_total", `source="disk"`) - disk
		served := d.metric("registryd_served_bytes_total") - all
		if int64(fromDisk) >= size && served == fromDisk {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("%.0f of %.0f bytes came from the disk, want all, and at least %d", fromDisk, served, size)
		}
	}
}
