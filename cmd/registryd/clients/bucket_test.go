package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"hostlocal/cmd/testdeps/need"
)

const (
	bucketUser, bucketSecret = "tester", "tester-secret"
	bucketName               = "images"
)

// bucketCredentials is the environment of a daemon that uses the bucket.
var bucketCredentials = []string{"AWS_ACCESS_KEY_ID=" + bucketUser, "AWS_SECRET_ACCESS_KEY=" + bucketSecret}

// bucket is a shared store in three views.
type bucket struct {
	store string                 // as a daemon's configuration names it
	stock string                 // as a stock registry's does
	has   func(key string) error // a look from outside: nil if there is an object
}

var bucketKinds = map[string]func(t *testing.T) bucket{
	"folder": func(t *testing.T) bucket {
		dir := scratch(t)
		return bucket{"{url: file://" + dir + "}", inFolder(dir), func(key string) error {
			_, err := os.Stat(filepath.Join(dir, key))
			return err
		}}
	},
	"minio": func(t *testing.T) bucket {
		const addr = "127.0.0.1:9000"
		p := start(t, []string{"MINIO_ROOT_USER=" + bucketUser, "MINIO_ROOT_PASSWORD=" + bucketSecret},
			need.Binary(t, "minio"), "server", scratch(t), "--address", addr, "--console-address", "127.0.0.1:9001")
		return bucketAt(t, p, addr, "minio")
	},
	"versitygw": func(t *testing.T) bucket {
		const addr = "127.0.0.1:9100"
		p := start(t, []string{"ROOT_ACCESS_KEY=" + bucketUser, "ROOT_SECRET_KEY=" + bucketSecret},
			need.Binary(t, "versitygw"), "--port", addr, "posix", scratch(t))
		return bucketAt(t, p, addr, "aws")
	},
}

// bucketAt makes the bucket as soon as the server lets it.
func bucketAt(t *testing.T, server *process, addr, driver string) bucket {
	t.Helper()
	client, err := minio.New(addr, &minio.Options{
		Creds: credentials.NewStaticV4(bucketUser, bucketSecret, ""), Region: "us-east-1", MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	server.ready(func() error {
		err := client.MakeBucket(t.Context(), bucketName, minio.MakeBucketOptions{Region: "us-east-1"})
		if minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			return nil // by the call before, whose answer was an error
		}
		return err
	})
	const prefix = "fleet"
	store := fmt.Sprintf("{url: s3://%s/%s, s3: {endpoint: http://%s, region: us-east-1, client: %s, path_style: true}}",
		bucketName, prefix, addr, driver)
	stock := fmt.Sprintf("s3: {accesskey: %s, secretkey: %s, region: us-east-1, regionendpoint: 'http://%s', forcepathstyle: true, bucket: %s, rootdirectory: /%s}, redirect: {disable: true}",
		bucketUser, bucketSecret, addr, bucketName, prefix)
	return bucket{store, stock, func(key string) error {
		_, err := client.StatObject(t.Context(), bucketName, prefix+"/"+key, minio.StatObjectOptions{})
		return err
	}}
}

// hasImage is nil when all of library/debian:12 lies in the bucket, for every
// platform, the tag included.
func (b bucket) hasImage(t *testing.T) error {
	t.Helper()
	const (
		root = "docker/registry/v2/"
		repo = root + "repositories/docker.io/library/debian/"
	)
	keys := []string{repo + "_manifests/tags/12/current/link"}
	debian, _ := makeImages(t)
	manifests, blobs := digestsOf(t, debian)
	for _, digest := range manifests {
		keys = append(keys, repo+"_manifests/revisions/sha256/"+digest.Hex+"/link")
	}
	for _, digest := range blobs {
		keys = append(keys, repo+"_layers/sha256/"+digest.Hex+"/link")
	}
	for _, digest := range append(manifests, blobs...) {
		keys = append(keys, root+"blobs/sha256/"+digest.Hex[:2]+"/"+digest.Hex+"/data")
	}
	for _, key := range keys {
		if err := b.has(key); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// TestNextHostPullsFromTheBucket is the shared store's purpose: what one host
// pulled, another has when the upstream is gone, and then from its own disk.
func TestNextHostPullsFromTheBucket(t *testing.T) {
	inNamespaces(t)
	for kind, makeBucket := range bucketKinds {
		t.Run(kind, func(t *testing.T) {
			h := startHub(t)
			bucket := makeBucket(t)
			first := startDaemon(t, setup{store: bucket.store, env: bucketCredentials})
			second := startDaemon(t, setup{host: 1, store: bucket.store, env: bucketCredentials})
			pull := func(d *daemon) {
				t.Helper()
				run(t, nil, "crane", "pull", "--insecure", "--format=oci", d.addr+"/library/debian:12",
					filepath.Join(scratch(t), "oci"))
			}
			pull(first)
			h.wantOnlyDaemons()
			first.ready(func() error { return bucket.hasImage(t) })
			first.stop()

			before := h.goAway()
			pull(second)
			if second.metric("registryd_upstream_bytes_total") != 0 {
				t.Error("the second host has bytes from the upstream")
			}
			contacts := h.contacts.Load() - before
			debian, _ := makeImages(t)
			second.wantFromDisk(layersSize(t, amd64Of(t, debian)), func() { pull(second) })
			h.wantNoContact(before + contacts)
		})
	}
}
