// Package blobcache is the bounded, crash-safe, content-addressed disk cache with
// joinable fills.
package blobcache

import (
	"context"
	"io"
	"os"

	"hostlocal/manifest"
)

// Cache is a folder of blobs within a budget of bytes.
type Cache struct{}

// A Want says what a caller knows of a blob that may have to be fetched.
type Want struct {
	Size    int64    // bytes, from a descriptor; -1 if nobody knows
	Offset  int64    // the first byte that the caller is going to read
	Origin  string   // handed to Options.Resume when a restart finds the fill unfinished
	Sources []Source // asked in this order
}

// Open returns a blob that is complete on this disk, or an error that wraps
// fs.ErrNotExist. It makes no network call.
func (c *Cache) Open(d manifest.Digest) (*Blob, error) { panic("soon") }

// Has reports whether d is complete on this disk.
func (c *Cache) Has(d manifest.Digest) bool { panic("soon") }

// Get returns the blob from this disk, or joins the fill that is running, or
// starts one. It returns when the blob is present or the fill has had its first
// answer, so that an outage is an error here, before the caller has sent a
// header. If no source has it, the error wraps fs.ErrNotExist, or
// fs.ErrPermission if one of them refused it. ctx ends only the wait of this
// caller.
func (c *Cache) Get(ctx context.Context, d manifest.Digest, w Want) (*Blob, error) { panic("soon") }

// Put publishes the bytes of r, which must have digest d, and returns when they
// are durable. It is for manifests and pushes: bytes that are at hand. If the
// cache has no room it returns an error that wraps ErrNoRoom, and nothing is lost
// by ignoring it.
func (c *Cache) Put(d manifest.Digest, r io.Reader, size int64) error { panic("soon") }

// Remove evicts d, pinned or not. A reader that has it open reads on.
func (c *Cache) Remove(d manifest.Digest) error { panic("soon") }

// Blob is one caller's hold on a blob: a file that is complete, or a fill that
// is under way. Close it.
type Blob struct{}

// Size returns the blob's length in bytes, or -1 while nobody knows it.
func (b *Blob) Size() int64 { panic("soon") }

// Source is what X-Registryd-Source says: disk, fill, store or upstream.
func (b *Blob) Source() string { panic("soon") }

// File returns the complete file for http.ServeContent, or nil if the blob is
// not complete on this disk (use CopyRange then). It is closed by Close.
func (b *Blob) File() *os.File { panic("soon") }

// CopyRange sends n bytes from off on to w as they land, n < 0 to the end,
// flushing w (if it is an http.Flusher) before each wait. An error after the first
// byte means that the rest must not be sent: break the connection.
// The last byte of the blob is sent only after the digest matched.
func (b *Blob) CopyRange(ctx context.Context, w io.Writer, off, n int64) error { panic("soon") }

// ReadAt waits until the bytes have landed (or the fill failed) and reads them:
// io.ReaderAt over a growing blob. It is what a write-back uploads from.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { panic("soon") }

// Close releases the hold. The fill goes on without it.
func (b *Blob) Close() error { panic("soon") }
