package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A ledger is what clients were told is there: what a registry must never lose.
type ledger struct {
	mu        sync.Mutex // guards all
	blobs     map[inRepo]hubtest.Content
	manifests map[inRepo]pushedManifest
	tags      map[[2]string]map[manifest.Digest]bool // what it may stand for by repository and tag; the zero Digest: nothing
	doubts    map[[2]string]map[manifest.Digest]bool // what a tag may yet become: nobody was told what came of it
	referrers map[inRepo]map[manifest.Digest]bool    // that a subject must have
	fresh     []inRepo                               // acknowledged since the last look
	freshTags [][2]string
}

type inRepo struct {
	repo   string
	digest manifest.Digest
}

// A pushedManifest is one that was, or is to be, pushed.
type pushedManifest struct {
	digest  manifest.Digest
	kind    string
	body    []byte
	subject manifest.Digest
}

func newLedger() *ledger {
	return &ledger{blobs: map[inRepo]hubtest.Content{}, manifests: map[inRepo]pushedManifest{},
		tags: map[[2]string]map[manifest.Digest]bool{}, doubts: map[[2]string]map[manifest.Digest]bool{}, referrers: map[inRepo]map[manifest.Digest]bool{}}
}

func (l *ledger) blob(repo string, d manifest.Digest, c hubtest.Content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs[inRepo{repo, d}] = c
	l.fresh = append(l.fresh, inRepo{repo, d})
}

func (l *ledger) manifest(repo string, m pushedManifest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manifests[inRepo{repo, m.digest}] = m
	l.fresh = append(l.fresh, inRepo{repo, m.digest})
	if m.subject.IsZero() {
		return
	}
	at := inRepo{repo, m.subject}
	if l.referrers[at] == nil {
		l.referrers[at] = map[manifest.Digest]bool{}
	}
	l.referrers[at][m.digest] = true
}

// mayTag notes that a tag may stand for d (the zero Digest: for nothing) from now on.
func (l *ledger) mayTag(repo, tag string, d manifest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{repo, tag}
	if l.tags[key] == nil {
		l.tags[key] = map[manifest.Digest]bool{{}: true}
	}
	l.tags[key][d] = true
}

// tag notes that a tag stands for d and nothing else. shared says that others write
// it at the same time: then it is one of what they wrote.
func (l *ledger) tag(repo, tag string, d manifest.Digest, shared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{repo, tag}
	if shared {
		delete(l.tags[key], manifest.Digest{})
	} else {
		l.tags[key] = map[manifest.Digest]bool{d: true}
		maps.Copy(l.tags[key], l.doubts[key])
	}
	l.freshTags = append(l.freshTags, key)
}

// doubt notes that nobody was told what came of a change of a tag: until the next look
// it may come yet.
func (l *ledger) doubt(repo, tag string, d manifest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := [2]string{repo, tag}
	if l.doubts[key] == nil {
		l.doubts[key] = map[manifest.Digest]bool{}
	}
	l.doubts[key][d] = true
}

// mayDelete notes that a manifest may be gone, and with it tags that stand for it.
func (l *ledger) mayDelete(repo string, d manifest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.manifests[inRepo{repo, d}]
	delete(l.manifests, inRepo{repo, d})
	delete(l.referrers[inRepo{repo, m.subject}], d)
	for key, may := range l.tags {
		if key[0] == repo && may[d] {
			may[manifest.Digest{}] = true
		}
	}
}

// deleted notes that a manifest is gone, and that no tag stands for it.
func (l *ledger) deleted(repo string, d manifest.Digest) {
	l.mayDelete(repo, d)
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, may := range l.tags {
		if key[0] == repo {
			delete(may, d)
		}
	}
}

// mayDeleteBlob notes that a blob may be gone.
func (l *ledger) mayDeleteBlob(repo string, d manifest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.blobs, inRepo{repo, d})
}

// missing returns what was acknowledged and is not in the bucket, after an audit. From
// then on tags stand for what they stand for there.
func (l *ledger) missing(a *auditor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.blobs {
		if !a.there[layerKey(at.repo, at.digest)] || !a.there[blobKey(at.digest)] {
			return fmt.Errorf("blob %s of %s was acknowledged and is not in the bucket", at.digest, at.repo)
		}
	}
	for at := range l.manifests {
		if !a.there[revisionKey(at.repo, at.digest)] || !a.there[blobKey(at.digest)] {
			return fmt.Errorf("manifest %s of %s was acknowledged and is not in the bucket", at.digest, at.repo)
		}
	}
	for at, may := range l.tags {
		said, _ := a.bucket.read(tagKey(at[0], at[1]))
		d, _ := manifest.ParseDigest(string(said)) // zero if nothing is there
		if !may[d] {
			return fmt.Errorf("%s:%s stands for %q in the bucket, and may only for %v", at[0], at[1], said, slices.Collect(maps.Keys(may)))
		}
		l.tags[at] = map[manifest.Digest]bool{d: true}
	}
	clear(l.doubts)
	return nil
}

// holds checks that the bucket has what has just been acknowledged.
func holds(b openBucket, keys ...string) error {
	for _, key := range keys {
		if f, ok := b.(interface{ has(string) bool }); ok && !f.has(key) {
			return fmt.Errorf("acknowledged, and the bucket does not have %s", key)
		}
	}
	return nil
}

// served pulls from a daemon what was acknowledged since the last time, and some of
// what was before.
func (l *ledger) served(ctx context.Context, base string, older int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ask, askTags := l.fresh, l.freshTags
	l.fresh, l.freshTags = nil, nil
	for at := range l.blobs {
		if older--; older < 0 {
			break
		}
		ask = append(ask, at)
	}
	for _, at := range ask {
		if c, ok := l.blobs[at]; ok && l.isOwn(at.repo) {
			if err := servedAt(ctx, base+"/v2/"+at.repo+"/blobs/"+at.digest.String(), c); err != nil {
				return err
			}
		}
		if m, ok := l.manifests[at]; ok {
			if err := servedAt(ctx, base+"/v2/"+at.repo+"/manifests/"+at.digest.String(), hubtest.Literal(m.body)); err != nil {
				return err
			}
			if want := l.referrers[inRepo{at.repo, m.subject}]; !m.subject.IsZero() {
				if err := listsReferrers(ctx, base, inRepo{at.repo, m.subject}, want); err != nil {
					return err
				}
			}
		}
	}
	for _, key := range askTags {
		resp, err := fetchURL(ctx, "HEAD", base+"/v2/"+key[0]+"/manifests/"+key[1])
		if err != nil {
			return err
		}
		resp.Body.Close()
		d, _ := manifest.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
		if may := l.tags[key]; !may[d] {
			return fmt.Errorf("%s:%s is served as %q (%d), and may only be %v", key[0], key[1], d, resp.StatusCode, slices.Collect(maps.Keys(may)))
		}
	}
	return nil
}

// isOwn reports whether every host knows by now that a bare name is the bucket's own:
// it is a manifest that says so, and not yet a blob.
func (l *ledger) isOwn(repo string) bool {
	for at := range l.manifests {
		if at.repo == repo {
			return true
		}
	}
	return false
}

func fetchURL(ctx context.Context, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "*/*")
	return http.DefaultClient.Do(req)
}

// servedAt gets a content and compares every byte.
func servedAt(ctx context.Context, url string, want hubtest.Content) error {
	resp, err := fetchURL(ctx, "GET", url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("%s was acknowledged: %d %s", url, resp.StatusCode, body)
	}
	wrong, n, err := want.FirstWrong(0, resp.Body)
	if err != nil || wrong >= 0 || n != want.Size {
		return fmt.Errorf("%s: %d bytes of %d, wrong at %d: %v", url, n, want.Size, wrong, err)
	}
	return nil
}

// listsReferrers checks that a subject has the referrers.
func listsReferrers(ctx context.Context, base string, subject inRepo, want map[manifest.Digest]bool) error {
	resp, err := fetchURL(ctx, "GET", base+"/v2/"+subject.repo+"/referrers/"+subject.digest.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	for d := range want {
		if !bytes.Contains(body, []byte(d.String())) {
			return fmt.Errorf("referrer %s of %s in %s was acknowledged and is not listed: %d %s", d, subject.digest, subject.repo, resp.StatusCode, body)
		}
	}
	return nil
}

// descriptor is a JSON descriptor of a blob.
func descriptor(mediaType string, d manifest.Digest, size int64) manifest.Descriptor {
	return manifest.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

// compose makes a manifest of blobs; mark makes it unlike others of the same.
func compose(mark string, config manifest.Descriptor, layers []manifest.Descriptor, subject *manifest.Descriptor) pushedManifest {
	doc := map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIManifest, "config": config, "layers": layers,
		"annotations": map[string]string{"mark": mark}}
	m := pushedManifest{kind: manifest.OCIManifest}
	if subject != nil {
		doc["subject"], m.subject = subject, subject.Digest
		doc["artifactType"] = "application/vnd.example.signature"
	}
	m.body, _ = json.Marshal(doc)
	m.digest = manifest.DigestOf(m.body)
	return m
}

// composeIndex makes an index of manifests.
func composeIndex(mark string, of []pushedManifest) pushedManifest {
	var list []manifest.Descriptor
	for _, m := range of {
		list = append(list, descriptor(m.kind, m.digest, int64(len(m.body))))
	}
	m := pushedManifest{kind: manifest.OCIIndex}
	m.body, _ = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIIndex, "manifests": list, "annotations": map[string]string{"mark": mark}})
	m.digest = manifest.DigestOf(m.body)
	return m
}
