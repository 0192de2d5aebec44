package clients

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// cri asks containerd for images as a kubelet does, and as crictl would: by
// CRI, whose registry settings are not those of ctr. Its two calls have a
// message with one string in a message each, so gRPC's frame around them is
// written here.
type cri struct {
	t      *testing.T
	client *http.Client
}

func newCRI(t *testing.T, socket string) *cri {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &cri{t, &http.Client{Transport: transport, Timeout: patience}}
}

// call does one call of runtime.v1.ImageService on one image.
// https://github.com/kubernetes/cri-api, pkg/apis/runtime/v1/api.proto;
// https://grpc.github.io/grpc/core/md_doc__p_r_o_t_o_c_o_l-_h_t_t_p2.html
func (c *cri) call(method, image string) {
	c.t.Helper()
	spec := field(1, []byte(image)) // ImageSpec.image
	message := field(1, spec)       // PullImageRequest.image, RemoveImageRequest.image
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost,
		"http://containerd/runtime.v1.ImageService/"+method, bytes.NewReader(frame))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, image, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		c.t.Fatalf("%s %s: %v", method, image, err)
	}
	// An answer that is an error from the start has no body, and its status
	// among the headers.
	status := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
	if status != "0" {
		c.t.Fatalf("%s %s: %s, gRPC status %q: %s", method, image, resp.Status, status,
			resp.Trailer.Get("Grpc-Message")+resp.Header.Get("Grpc-Message"))
	}
}

// field is a protobuf field of bytes, as long as a name may be.
func field(number int, value []byte) []byte {
	head := binary.AppendUvarint([]byte{byte(number<<3 | 2)}, uint64(len(value)))
	return append(head, value...)
}

// TestKubeletsContainerdPullsThroughMirror pulls by CRI with hosts.toml, from
// Docker Hub and from another registry, and runs what came.
func TestKubeletsContainerdPullsThroughMirror(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "containerd")
	t.Run("1.6", func(t *testing.T) {
		criPulls(t, func(t *testing.T, mirror string) *ctr {
			c := newCtr(t, "", need.Binary(t, "ctr"))
			c.start(need.Binary(t, "containerd"), mirror, 2,
				fmt.Sprintf("[plugins.'io.containerd.grpc.v1.cri'.registry]\n  config_path = %q\n", c.hosts))
			return c
		})
	})
	t.Run("2", func(t *testing.T) {
		root := newerRoot(t)
		criPulls(t, func(t *testing.T, mirror string) *ctr {
			c := newCtr(t, root, "/usr/bin/ctr")
			c.start("/usr/bin/containerd", mirror, 3,
				fmt.Sprintf("[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = %q\n", c.hosts))
			return c
		})
	})
}

func criPulls(t *testing.T, startContainerd func(t *testing.T, mirror string) *ctr) {
	coldThenWarm(t, func(t *testing.T, d *daemon) puller {
		const image, other = "docker.io/library/debian:12", "ghcr.io/owner/app:v1"
		ctr := startContainerd(t, d.addr)
		cri := newCRI(t, ctr.socket)
		return puller{
			pull: func() {
				t.Helper()
				cri.call("PullImage", image)
				cri.call("PullImage", other)
				wantHello(t, ctr.do("-n", "k8s.io", "run", "--rm", image, "hello",
					"/bin/busybox", "echo", "hello from the image"))
			},
			forget: func() {
				cri.call("RemoveImage", image)
				cri.call("RemoveImage", other)
			},
		}
	})
}
