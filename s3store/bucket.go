// Package s3store is the truth that all hosts share: an S3 bucket, or a folder
// that stands in for one.
//
// Two layers live here. Below is Bucket, one HTTP exchange a call, with three
// drivers that pass one contract suite: aws-sdk-go-v2, minio-go and a plain
// folder. Above it, once for all of them, is everything with policy in it:
// ranged parallel reads, resume, retry budgets, multipart writes.
//
//	Store          layout, digests, ranges, resume, retries
//	  |
//	Bucket         Stat Get Put Delete List, multipart steps
//	  |--- aws     aws-sdk-go-v2, s3.Client
//	  |--- minio   minio-go, minio.Core
//	  `--- folder  files, link(2), flock
//
// The invariant of the lower layer: a call that returns nil did exactly what was
// asked, and a body that ends with io.EOF had exactly the announced length. The
// invariant of the upper one: an object stands under a digest only if its bytes
// were verified against it.
package s3store

import (
	"context"
	"io"
	"time"
)

// A Bucket is a flat set of objects under keys. Each call is one exchange with
// the store: nothing is retried, split, resumed or hedged below this line, so
// that the layer above can count and bound what it causes.
//
// Keys are relative to the configured prefix, use "/" between components, and
// have no empty, "." or ".." component. They are at most 1,024 bytes long.
//
// Errors: one that wraps fs.ErrNotExist is a miss (the store answered, and the
// object or upload is not there), one that wraps fs.ErrPermission is a refusal,
// ErrPrecondition says that a condition did not hold. All of them, and all
// others that the store or the way to it caused, are an *Error, which tells
// "again" from "never". Errors of the context stay recognisable with errors.Is.
// Where a store hides misses from callers without list permission, the refusal is
// passed on as it came.
//
// After a failed or cancelled write it is not known whether it took place, unless
// the error is one of the three above. ErrPrecondition can come to the very caller
// whose write succeeded and whose answer was lost: read back before concluding.
//
// All methods may be called from several goroutines at once. The context bounds
// the whole exchange, for Get until the body is closed.
type Bucket interface {
	// Stat describes the object without reading it.
	Stat(ctx context.Context, key string) (Object, error)

	// Get reads n bytes from byte off on; n < 0 means to the end, n == 0 is
	// invalid. If ifMatch is not empty the object's ETag must equal it, else
	// ErrPrecondition. The range may reach past the end and is then cut; one that
	// begins past the end is an *Error with Status 416.
	//
	// Object.Size is the size of the whole object, whatever was asked for. The
	// caller closes the body, early if it likes. The body's length is checked: it
	// ends with io.EOF after exactly the bytes asked for that exist, with
	// io.ErrUnexpectedEOF if fewer came. A read that gets nothing for the stall
	// timeout fails with an error that wraps os.ErrDeadlineExceeded. Content is
	// not checked, its digest is the caller's affair.
	Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, Object, error)

	// Put writes an object of exactly size bytes, which body yields from where it
	// stands; body is not closed. The object appears whole, durable and at once,
	// or not at all.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (etag string, err error)

	// Delete removes the object. Deleting what is not there is no error: S3 does
	// not tell. There is no conditional form, because MinIO ignores the condition
	// and deletes (measured).
	Delete(ctx context.Context, key string) error

	// List returns the objects whose keys begin with prefix, in the order of their
	// bytes. With delimiter "/" the keys that have it after the prefix are rolled
	// up into Prefixes; the only other delimiter is "". Objects and Prefixes are
	// entries alike: at most max of them (1 to 1,000) come back, all greater than
	// after. Pass Page.Next as after to go on.
	List(ctx context.Context, prefix, delimiter, after string, max int) (Page, error)

	// CreateMultipart begins an object that is sent in parts. Nothing is visible
	// under key before CompleteMultipart. Whoever creates an upload completes or
	// aborts it; the parts cost money until then.
	CreateMultipart(ctx context.Context, key string) (uploadID string, err error)

	// UploadPart sends part number (1 to 10,000) of size bytes. All parts but the
	// last have the same size, at least 5 MiB. Sending a number again replaces it.
	UploadPart(ctx context.Context, key, uploadID string, number int, body io.ReadSeeker, size int64) (etag string, err error)

	// CopyPart sends n bytes from byte off on of the object src as part number: the
	// store copies them, and they do not come this way. If ifMatch is not empty the
	// ETag of src must equal it, else ErrPrecondition. The range lies within src,
	// which is a miss if it is not there, as the upload is. A store that cannot do it
	// says so with Status 501.
	CopyPart(ctx context.Context, key, uploadID string, number int, src, ifMatch string, off, n int64) (etag string, err error)

	// CompleteMultipart makes the object out of the parts, in the order of their
	// numbers. An upload that is not known (any more) is a miss.
	CompleteMultipart(ctx context.Context, key, uploadID string, parts []Part, opt CompleteOptions) (etag string, err error)

	// AbortMultipart drops the upload and its parts. An upload that is not known
	// is a miss, or no error: stores differ.
	AbortMultipart(ctx context.Context, key, uploadID string) error
}

// An Object is what the store says about one.
type Object struct {
	Key      string
	Size     int64     // of the whole object, in bytes
	ETag     string    // without quotes; changes when the content does. May be empty in a List
	Modified time.Time // by the store's clock, in whole seconds for S3
	Date     time.Time // the store's clock when it answered; with Modified it gives an age without a local clock. Zero in a List
}

// PutOptions are the conditions and facts that go with a Put. The zero value
// overwrites whatever is there.
type PutOptions struct {
	IfNoneMatch bool   // only if there is no such object, else ErrPrecondition
	IfMatch     string // only if the object has this ETag: ErrPrecondition if it has another, a miss or ErrPrecondition if it is gone
	SHA256      string // the body's sha256 in lower case hexadecimal, if known: the store refuses other bytes, and nobody hashes them for the signature
	ContentType string // kept with the object where the store can
}

// CompleteOptions are the conditions of a CompleteMultipart.
type CompleteOptions struct {
	IfNoneMatch bool // only if there is no such object, else ErrPrecondition
}

// A Part is one that was uploaded: its number and the ETag that UploadPart gave.
type Part struct {
	Number int
	ETag   string
}

// A Page is one answer to List.
type Page struct {
	Objects  []Object
	Prefixes []string // with their trailing delimiter
	Next     string   // the after for the next page; empty if this was the last
}
