package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hostlocal/manifest"
	"hostlocal/registryd/archive"
)

// asName is what --as says. The zero value says nothing.
type asName struct {
	repository, tag string
}

// parseAs reads --as. A bare name that could be either becomes the bucket's own, as it
// does by being pushed to.
func (c *config) parseAs(s string) (asName, error) {
	if s == "" {
		return asName{}, nil
	}
	ref, err := manifest.ParseReference(s)
	if err != nil {
		return asName{}, err
	}
	if !ref.Digest.IsZero() {
		return asName{}, errors.New("a name and a tag, without a digest")
	}
	m, err := c.meanings().Resolve(ref.Repository, "")
	if err != nil {
		return asName{}, err
	}
	if m.Undecided {
		m.Name = m.Own
	}
	return asName{m.Name.String(), ref.Tag}, nil
}

// name gives every image its targets. What is wrong with --as is an error; an image
// that has no name of its own fails alone.
func (r *importRun) name(ctx context.Context, all *importReport) error {
	good := 0
	for i := range all.Images {
		if all.Images[i].image != nil {
			good++
		}
	}
	if r.as.tag != "" && good > 1 {
		return exit(exitUsage, "--as %s:%s: there are %d images, and one tag for them; leave :%s out to keep the archive's tags, or import one", r.as.repository, r.as.tag, good, r.as.tag)
	}
	taken := map[archive.Target]int{}
	for i := range all.Images {
		one := &all.Images[i]
		if one.image == nil {
			continue
		}
		targets, err := r.targets(ctx, one)
		if err == nil && len(targets) == 0 {
			err = fmt.Errorf("the archive has no name for it; type --as REPOSITORY:TAG, such as --as team/app:v1")
		}
		for _, t := range targets {
			if j, ok := taken[t]; ok && all.Images[j].image.Root.Digest != one.image.Root.Digest && err == nil {
				err = fmt.Errorf("%s is the name of another image too, %s in %s; import one of them with --as", t, all.Images[j].Digest, all.Images[j].Archive)
			}
		}
		if err != nil {
			if !one.failed() { // what is wrong with the archive comes first
				one.fail(err)
			}
			continue
		}
		one.targets = targets
		for _, t := range targets {
			one.To = append(one.To, t.String())
			if !one.failed() {
				taken[t] = i
			}
		}
	}
	return nil
}

// targets are where one image goes: by --as, else by the archive's names.
func (r *importRun) targets(ctx context.Context, one *importedImage) (targets []archive.Target, err error) {
	add := func(repo, tag string) {
		if t := (archive.Target{Repository: repo, Tag: tag}); !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	img := one.image
	switch {
	case r.as.tag != "":
		add(r.as.repository, r.as.tag)
		return targets, nil
	case r.as.repository != "":
		tags := slices.Clone(img.Tags)
		for _, name := range img.Names {
			if ref, err := manifest.ParseReference(name); err == nil && ref.Tag != "" {
				tags = append(tags, ref.Tag)
			}
		}
		if len(tags) == 0 {
			tags = []string{"latest"}
		}
		for _, tag := range tags {
			if err := manifest.ParseTag(tag); err != nil {
				return nil, fmt.Errorf("%w; type --as %s:TAG", err, r.as.repository)
			}
			add(r.as.repository, tag)
		}
		return targets, nil
	case len(img.Names) == 0 && len(img.Tags) > 0:
		return nil, fmt.Errorf("the archive has only the tag %.128q for it; type --as REPOSITORY, such as --as team/app", img.Tags[0])
	}
	for _, name := range img.Names {
		m, tag, _, err := r.meanings().ParseImage(name)
		if err != nil {
			return nil, fmt.Errorf("its name %.200q: %w; type --as REPOSITORY:TAG for another", name, err)
		}
		if m.Undecided {
			if m.Name, err = r.decide(ctx, m); err != nil {
				return nil, err
			}
			if !m.Name.IsOwn() {
				one.Note = fmt.Sprintf("%s is taken for %s's; for a repository of the bucket's own type --as %s", name, m.Name.Host, strings.Split(name, "@")[0])
			}
		}
		add(m.Name.String(), tag)
	}
	return targets, nil
}

// decide is what a pull would do with a bare name: the bucket's own repository if there
// is one, else the default upstream's.
func (r *importRun) decide(ctx context.Context, m manifest.Meaning) (manifest.Name, error) {
	store, err := r.bucket()
	if err != nil {
		return manifest.Name{}, err
	}
	own, err := store.Exists(ctx, m.Own.Path)
	if err != nil {
		return manifest.Name{}, fmt.Errorf("whether the bucket has a repository %s of its own: %w; --as says it without asking", m.Own.Path, err)
	}
	if own {
		return m.Own, nil
	}
	return m.Name, nil
}
