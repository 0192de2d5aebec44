package blobcache

import (
	"bytes"
	"os"
	"testing"
)

// Whoever sends an upload on reads a file of his own: it outlives the upload, is not
// written, and reads the same when that has become a blob.
func TestReopenedUploadOutlivesIt(t *testing.T) {
	for _, end := range []string{"commit", "abort", "close"} {
		h, o := newTester(t, Options{}), newOrigin(300_000, 1)
		u, body := h.newUpload(1), o.bytes
		h.send(u, body[:200_000])
		f, err := u.Reopen()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h.send(u, body[200_000:])
		switch end {
		case "commit":
			if err := u.Commit(o.digest); err != nil {
				t.Fatal(err)
			}
		case "abort":
			u.Abort()
		default:
			u.Close()
		}
		got := make([]byte, len(body))
		if n, err := f.ReadAt(got, 0); n < len(body) || !bytes.Equal(got, body) {
			t.Errorf("after %s: %d bytes, %v", end, n, err)
		}
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Errorf("after %s: it can be written", end)
		}
		if _, err := u.Reopen(); err == nil {
			t.Errorf("after %s: opened again", end)
		}
	}
}

func TestReopenedUploadIsTheUpload(t *testing.T) {
	h := newTester(t, Options{})
	u := h.newUpload(1)
	h.send(u, []byte("bytes"))
	if err := os.Rename(u.path, u.path+"0"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.path, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := u.Reopen(); err == nil {
		f.Close()
		t.Error("somebody else's file was opened")
	}
}
