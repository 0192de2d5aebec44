package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"

	"hostlocal/manifest"
	"hostlocal/registryd/archive"
)

// importReport is what an import did, or would do.
type importReport struct {
	DryRun bool            `json:"dryRun,omitempty"`
	Images []importedImage `json:"images"`

	archives []*archive.Archive
}

// importedImage is one image of it, or a path that has none because of an Error.
type importedImage struct {
	Archive string          `json:"archive"`
	To      []string        `json:"to,omitempty"` // repository:tag in the bucket
	Digest  manifest.Digest `json:"digest,omitzero"`
	Size    int64           `json:"size"` // of its blobs, in bytes
	LeftOut []string        `json:"leftOut,omitempty"`
	Built   bool            `json:"manifestMade,omitempty"`
	Note    string          `json:"note,omitempty"`
	Error   string          `json:"error,omitempty"`
	archive.Result

	image   *archive.Image
	targets []archive.Target
	done    bool
}

func (i *importedImage) failed() bool   { return i.Error != "" }
func (i *importedImage) fail(err error) { i.Error = err.Error() }

// fail adds what could not be opened.
func (r *importReport) fail(i importedImage, err error) {
	i.fail(err)
	r.Images = append(r.Images, i)
}

// failRest is about the images whose turn does not come.
func (r *importReport) failRest(err error) {
	for i := range r.Images {
		if one := &r.Images[i]; one.image != nil && !one.failed() && !one.done {
			one.fail(err)
		}
	}
}

// open adds the images of an archive. It stays open until close.
func (r *importReport) open(ctx context.Context, path string, o archive.Options) {
	a, err := archive.Open(ctx, path, o)
	if err != nil {
		r.fail(importedImage{Archive: path}, errors.New(strings.TrimPrefix(err.Error(), path+": ")))
		return
	}
	r.archives = append(r.archives, a)
	for _, img := range a.Images {
		one := importedImage{Archive: path, Digest: img.Root.Digest, Size: img.Size(), LeftOut: img.LeftOut, Built: img.Built, image: img}
		if img.Err != nil {
			one.fail(img.Err)
		}
		r.Images = append(r.Images, one)
	}
	if len(a.Images) == 0 {
		r.fail(importedImage{Archive: path}, errors.New("it lists no images"))
	}
}

func (r *importReport) close() {
	for _, a := range r.archives {
		a.Close()
	}
}

// size returns how many images there are to import, and the bytes of their blobs.
func (r *importReport) size() (images int, bytes int64) {
	seen := map[manifest.Digest]bool{}
	for i := range r.Images {
		if r.Images[i].image == nil || r.Images[i].failed() {
			continue
		}
		images++
		for _, b := range r.Images[i].image.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				bytes += b.Size
			}
		}
	}
	return images, bytes
}

// human writes the report for a person, a paragraph an image that is worth one.
func (r *importReport) human(w io.Writer) {
	for _, i := range r.Images {
		name := strings.Join(i.To, ", ")
		if name == "" {
			name = i.Archive
		} else if i.failed() {
			name += " of " + i.Archive
		}
		switch {
		case i.failed():
			fmt.Fprintf(w, "failed\t%s: %s\n", name, i.Error)
			continue
		case r.DryRun:
			fmt.Fprintf(w, "would import\t%s\t%s\t%s of %s\n", name, i.Digest, units.BytesSize(float64(i.Size)), i.Archive)
		case i.Sent == 0:
			fmt.Fprintf(w, "imported\t%s\t%s\tthe bucket had all its blobs\n", name, i.Digest)
		default:
			fmt.Fprintf(w, "imported\t%s\t%s\t%s sent, %d of %d blobs were there\n", name, i.Digest, units.BytesSize(float64(i.Bytes)), i.There, i.There+i.Sent)
		}
		if len(i.LeftOut) > 0 {
			fmt.Fprintf(w, "\tnot in the archive, and left out: %s\n", strings.Join(i.LeftOut, ", "))
		}
		if i.Note != "" {
			fmt.Fprintf(w, "\t%s\n", i.Note)
		}
	}
}

// verdict is the command's error.
func (r *importReport) verdict(ctx context.Context) error {
	failed := 0
	for _, i := range r.Images {
		if i.failed() {
			failed++
		}
	}
	switch n := len(r.Images); {
	case failed == 0:
		return nil
	case ctx.Err() != nil:
		return exit(exitInterrupted, "interrupted: %d of %d images are in, with their tags; type the same again to go on", n-failed, n)
	case failed == n && n == 1:
		return errors.New("nothing was imported")
	default:
		return fmt.Errorf("%d of %d could not be imported", failed, n)
	}
}
