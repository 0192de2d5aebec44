package clients

import (
	"testing"
)

const besideAddr = "127.0.0.1:5600" // of the stock registry over the daemon's own bucket

// TestStockRegistrysBucketIsServedInPlace lets a stock registry write, and
// registryd read, as a team does that changes from the one to the other.
func TestStockRegistrysBucketIsServedInPlace(t *testing.T) {
	inNamespaces(t)
	for kind, makeBucket := range bucketKinds {
		t.Run(kind, func(t *testing.T) {
			h := startHub(t)
			bucket := makeBucket(t)
			stockRegistry(t, bucket.stock, besideAddr)
			pushImages(t, besideAddr)
			d := startDaemon(t, setup{store: bucket.store, env: bucketCredentials})
			before := h.goAway()
			wantWhole(t, d.addr+"/owner/app:v1")
			h.wantNoContact(before)
		})
	}
}

// TestStockRegistryServesWhatWasMirrored is the other direction: nothing that
// registryd keeps binds anybody to it. A mirrored repository has the
// upstream's name before its own.
func TestStockRegistryServesWhatWasMirrored(t *testing.T) {
	inNamespaces(t)
	for kind, makeBucket := range bucketKinds {
		t.Run(kind, func(t *testing.T) {
			startHub(t)
			bucket := makeBucket(t)
			d := startDaemon(t, setup{store: bucket.store, env: bucketCredentials})
			wantWhole(t, d.addr+"/library/debian:12")
			d.ready(func() error { return bucket.hasImage(t) })
			d.stop()
			stockRegistry(t, bucket.stock, besideAddr)
			wantWhole(t, besideAddr+"/docker.io/library/debian:12")
		})
	}
}

// wantWhole has crane read every byte of an image, for every platform, and
// check it against its digests and descriptors.
func wantWhole(t *testing.T, image string) {
	t.Helper()
	run(t, nil, "crane", "validate", "--insecure", "--remote", image)
}
