package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hostlocal/manifest"
	"hostlocal/registryd/archive"
	"hostlocal/s3store"
)

// importPatience is for how long an import waits for a bucket that does not answer:
// longer than a restart of it, and not so long that nobody would look.
const importPatience = time.Minute

// An importRun is one call of the command.
type importRun struct {
	*config
	out      report
	as       asName
	platform *manifest.Platform
	dry      bool
	store    *s3store.Store // nil until it is needed
	screen   *importScreen
}

func importCommand(load loader) *cobra.Command {
	var as, platform string
	var dry bool
	cmd := &cobra.Command{
		Use:   "import PATH... [--as REPOSITORY[:TAG]]",
		Short: "Put images from files into the bucket",
		Long: `Import takes images out of files into the configured store, for hosts that reach no upstream.
No daemon needs to run; several hosts may import at once. A PATH is

  a tar of docker save or podman save, or an OCI layout as a tar, gzip around it or not
  an OCI layout's folder
  a folder of any of these, however deep
  -, for standard input

A tar is read where it lies. What is compressed or comes through a pipe is unpacked into TMPDIR first.

An image goes under the names that the archive has for it, as registryd resolve explains them:
debian:12 to where the mirrored docker.io/library/debian lies, so that hosts serve it while the
upstream is down; a bare name of two parts to the bucket's own repository if there is one, else to
the default upstream's. --as says another: with a tag that of a single image, without one the
repository of all of them. --dry-run says what would go where.

Manifests and layers are kept bit by bit. A Docker archive of before Docker 25 has no manifest: one is
made, and layers stay uncompressed, so that each import of it gives the same digests. For compressed
ones: skopeo copy docker-archive:OLD.tar oci-archive:NEW.tar.

Every byte is checked before any of its image is written, and the tag is written last. What the bucket
has is not sent again: to go on after an interruption type the same again.

Exit status: 0, 1 if an image could not be imported (the others were), 2 for a wrong command line,
130 if it was interrupted.`,
		Example: `  docker save debian:12 ghcr.io/owner/app:v1 | registryd import -
  registryd import --dry-run /media/usb
  registryd import app.tar --as team/app:v1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exit(exitUsage, "what to import? Type registryd import PATH, a tar or a folder, or - for standard input")
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return exit(exitUsage, "%w; see registryd import --help", err)
	})
	cmd.Flags().StringVar(&as, "as", "", "import as `REPOSITORY[:TAG]`, whatever the archive says")
	cmd.Flags().StringVar(&platform, "platform", "", "of images for several, take this `os/architecture` only")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be imported, and under which names")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		r := &importRun{config: c, dry: dry, out: report{cmd.OutOrStdout(), *asJSON}, screen: newImportScreen(cmd.ErrOrStderr())}
		if r.as, err = c.parseAs(as); err != nil {
			return &exitError{exitUsage, fmt.Errorf("--as %s: %w", as, err)}
		}
		if platform != "" {
			p, err := manifest.ParsePlatform(platform)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("--platform: %w", err)}
			}
			r.platform = &p
		}
		return r.run(cmd.Context(), paths)
	}
	return cmd
}

// run opens all that was named, says what goes where, and imports it.
func (r *importRun) run(ctx context.Context, paths []string) (err error) {
	defer func() {
		if r.store != nil {
			err = errors.Join(err, r.store.Close())
		}
	}()
	var all importReport
	for _, path := range paths {
		found, err := archive.Find(ctx, path)
		if err != nil {
			all.fail(importedImage{Archive: path}, err)
			continue
		}
		for _, p := range found {
			all.open(ctx, p, archive.Options{Platform: r.platform})
		}
	}
	defer all.close()
	if err := ctx.Err(); err != nil {
		return exit(exitInterrupted, "interrupted before anything was imported")
	}
	if err := r.name(ctx, &all); err != nil {
		return err
	}
	if !r.dry {
		r.carryOut(ctx, &all)
	}
	all.DryRun = r.dry
	if err := r.out.print(&all, all.human); err != nil {
		return err
	}
	return all.verdict(ctx)
}

// bucket opens the store when it is first needed: a dry run may go without.
func (r *importRun) bucket() (*s3store.Store, error) {
	if r.store != nil {
		return r.store, nil
	}
	b, err := s3store.OpenBucket(context.Background(), s3store.Config{
		URL:       r.config.store.url,
		Endpoint:  r.config.store.s3.endpoint,
		Region:    r.config.store.s3.region,
		Client:    r.config.store.s3.client,
		PathStyle: r.config.store.s3.pathStyle,
	})
	if err != nil {
		return nil, err
	}
	// Whether pulls fill the bucket is one thing; what is imported was asked for.
	r.store = s3store.New(b, s3store.Options{Mirror: true, Own: r.meanings().MayOwn, Log: slog.New(slog.DiscardHandler)})
	return r.store, nil
}

// carryOut imports one image after the other. One that fails is not the others'
// trouble, unless the bucket is.
func (r *importRun) carryOut(ctx context.Context, all *importReport) {
	store, err := r.bucket()
	if err != nil {
		all.failRest(err)
		return
	}
	notes := r.notes(ctx, store)
	defer notes.Close()
	progress := new(archive.Progress)
	progress.Expect(all.size())
	im := &archive.Importer{Store: store, Notes: notes, Progress: progress, Patience: importPatience}
	stop := r.screen.follow(progress)
	defer stop()
	for i := range all.Images {
		one := &all.Images[i]
		if one.image == nil || one.failed() {
			continue
		}
		progress.Next(one.To[0])
		result, err := im.Import(ctx, one.image, one.targets)
		one.Result, one.done = result, true
		if err != nil {
			progress.Failed(one.image)
			one.fail(r.advise(err))
		}
		if ctx.Err() != nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, s3store.ErrUnavailable) {
			all.failRest(errNotTried)
			return
		}
	}
}

var errNotTried = errors.New("not tried any more")

// advise says what to do about an error of the bucket.
func (r *importRun) advise(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; type the same again to go on")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; %s must be writable for an import: give it credentials that may write, or import on the host that has them", err, r.config.store.url)
	case errors.Is(err, manifest.ErrMismatch), errors.Is(err, archive.ErrArchive):
		return err
	}
	return fmt.Errorf("%w; nothing is lost: type the same again to go on", err)
}

// notes opens what is kept of uploads that broke off, in the user's state folder.
// Without it the import goes on, and a large blob that breaks off begins anew.
func (r *importRun) notes(ctx context.Context, store *s3store.Store) *archive.Notes {
	where := sha256.Sum256([]byte(r.config.store.s3.endpoint + " " + r.config.store.url))
	dir := filepath.Join(userFolder("XDG_STATE_HOME", ".local/state"), "registryd-import", fmt.Sprintf("%x", where[:8]))
	notes, err := archive.OpenNotes(dir)
	if err != nil {
		r.screen.say(fmt.Sprintf("large blobs cannot go on where they broke off: %v", err))
		return nil
	}
	notes.Tidy(ctx, store)
	return notes
}
