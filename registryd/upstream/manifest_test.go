package upstream

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

func TestManifestsByTagAndByDigest(t *testing.T) {
	x := newTester(t, nil)
	for _, img := range []hubtest.Image{
		x.hub.AddImage("library/app", "oci", x.hub.Layer(10)),
		x.hub.AddDocker("library/app", "docker", x.hub.Layer(10)),
		x.hub.AddIndex("library/app", "index", []manifest.Platform{{OS: "linux", Architecture: "amd64"}}, x.hub.Layer(10)),
	} {
		x.wantTag(img)
		for _, ref := range []string{img.Tag, img.Digest.String()} {
			body, mediaType, err := x.c.Manifest(t.Context(), img.Repo, ref)
			if err != nil || !bytes.Equal(body, img.Body) || mediaType != img.MediaType {
				t.Errorf("Manifest(%s) = %d bytes, %s, %v", ref, len(body), mediaType, err)
			}
		}
		d, err := x.c.Head(t.Context(), img.Repo, img.Digest.String())
		if err != nil || d.Digest != img.Digest {
			t.Errorf("Head by digest = %v, %v", d, err)
		}
	}
	for _, q := range x.hub.Requests(hubtest.Manifests()) {
		for _, typ := range []string{manifest.OCIIndex, manifest.OCIManifest, manifest.DockerList, manifest.DockerManifest} {
			if !strings.Contains(q.Header.Get("Accept"), typ) {
				t.Errorf("Accept of %s %s lacks %s", q.Method, q.Path, typ)
			}
		}
		if q.Header.Get("Accept-Encoding") != "identity" || q.Header.Get("Authorization") != "" {
			t.Errorf("headers of %s %s: %v", q.Method, q.Path, q.Header)
		}
	}
	x.count(6, hubtest.HeadManifest)
	x.count(6, hubtest.GetManifest)
	if n := len(x.seen["head"]) + len(x.seen["manifest"]); n != 12 {
		t.Errorf("Observe was told of %d exchanges, not 12", n)
	}
}

func TestNegotiatingUpstreamGivesTheIndex(t *testing.T) {
	x := newTester(t, nil)
	img := x.hub.AddIndex("library/app", "v1", []manifest.Platform{{OS: "linux", Architecture: "amd64"}}, x.hub.Layer(10))
	x.hub.Fault(hubtest.Manifests(), hubtest.Negotiate())
	x.wantTag(img)
}

func TestUselessHeadIsReplacedByOneGetAndRemembered(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{"405": hubtest.NoHead(), "501": hubtest.Status(501), "no digest": hubtest.NoDigest(), "no type": hubtest.Header("Content-Type", "application/octet-stream")} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, nil)
			img := x.hub.AddImage("library/app", "v1", x.hub.Layer(10))
			x.hub.Fault(hubtest.Of(hubtest.HeadManifest), fault)
			x.wantTag(img)
			body, _, err := x.c.Manifest(t.Context(), img.Repo, img.Digest.String())
			if err != nil || !bytes.Equal(body, img.Body) {
				t.Errorf("Manifest = %d bytes, %v", len(body), err)
			}
			x.count(1, hubtest.HeadManifest)
			x.count(1, hubtest.GetManifest)
			x.wantTag(img)
			x.count(1, hubtest.HeadManifest)
			x.count(2, hubtest.GetManifest)
			if !x.c.Status().GetOnly {
				t.Error("the status does not say that HEAD is of no use")
			}
		})
	}
}

func TestUselessHeadIsNotRememberedIfTheGetFailsToo(t *testing.T) {
	x := newTester(t, nil)
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(10))
	x.hub.Fault(hubtest.Manifests(), hubtest.ErrorPage(), hubtest.NoDigest(), hubtest.Header("Content-Type", "text/html"))
	_, err := x.c.Head(t.Context(), img.Repo, img.Tag)
	x.wantOutage(err)
	x.hub.Heal()
	x.hub.Forget()
	x.wantTag(img)
	x.count(1, hubtest.HeadManifest)
	x.count(0, hubtest.GetManifest)
}

func TestWrongManifestsAreRefused(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{
		"flipped":     hubtest.Flip(5),
		"short":       hubtest.Short(1),
		"long":        hubtest.Long(1),
		"endless":     hubtest.Endless(),
		"page":        hubtest.ErrorPage(),
		"gzip":        hubtest.Gzip(),
		"length":      hubtest.ContentLength(10),
		"huge":        hubtest.ContentLength(manifest.MaxSize + 1),
		"cut":         hubtest.CutEvery(100),
		"not by that": hubtest.Header("Docker-Content-Digest", manifest.DigestOf([]byte("another")).String()),
	} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, nil)
			img := x.hub.AddImage("library/app", "v1", x.hub.Layer(10))
			x.hub.Fault(hubtest.Of(hubtest.GetManifest), fault)
			for _, ref := range []string{"v1", img.Digest.String()} {
				x.within(2*time.Second, func(ctx context.Context) {
					body, _, err := x.c.Manifest(ctx, img.Repo, ref)
					x.wantOutage(err)
					if body != nil {
						t.Error("an error and a body")
					}
				})
			}
			x.hub.Heal()
			if body, _, err := x.c.Manifest(t.Context(), img.Repo, "v1"); err != nil || !bytes.Equal(body, img.Body) {
				t.Errorf("healed: %d bytes, %v", len(body), err)
			}
		})
	}
}

func TestMismatchSaysSo(t *testing.T) {
	x := newTester(t, nil)
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(10))
	x.hub.Fault(hubtest.Of(hubtest.GetManifest), hubtest.Flip(5))
	_, _, err := x.c.Manifest(t.Context(), img.Repo, img.Digest.String())
	if !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("%v does not wrap ErrMismatch", err)
	}
	x.count(1, hubtest.GetManifest) // another try would bring the same
}

func TestAnswersAreToldFromOutages(t *testing.T) {
	x := newTester(t, impatient)
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(10))
	head := func(repo, ref string) error {
		_, err := x.c.Head(t.Context(), repo, ref)
		return err
	}
	x.wantMissing(head("library/app", "v2"))
	x.wantMissing(head("library/none", "v1"))
	x.wantMissing(head("../library/app", "v1"))
	x.wantMissing(head("library/app", "v1?x=y"))
	if e := x.c.Status(); !e.DownSince.IsZero() {
		t.Errorf("down since %v after answers", e.DownSince)
	}
	x.hub.Forbid("library/app")
	x.wantDenied(head("library/app", "v1"))
	x.hub.Allow("library/app")
	x.hub.Fault(hubtest.All(), hubtest.Status(401))
	x.wantDenied(head("library/app", "v1"))
	x.hub.Heal()
	for name, fault := range map[string]hubtest.Fault{"500": hubtest.Status(500), "503": hubtest.Status(503), "drop": hubtest.Drop(), "stall": hubtest.Stall(), "429": hubtest.TooMany(30)} {
		x.hub.Fault(hubtest.All(), fault)
		x.within(3*time.Second, func(ctx context.Context) {
			_, err := x.c.Head(ctx, "library/app", "v1")
			if e := x.wantOutage(err); name == "429" && e.RetryAfter != 30*time.Second {
				t.Errorf("RetryAfter = %v", e.RetryAfter)
			}
		})
		if s := x.c.Status(); s.DownSince.IsZero() || s.LastError == "" {
			t.Errorf("%s: status %+v", name, s)
		}
		x.hub.Heal()
	}
	x.hub.Down()
	x.within(time.Second, func(ctx context.Context) {
		_, err := x.c.Head(ctx, "library/app", "v1")
		x.wantOutage(err)
	})
	x.hub.Up()
	x.wantTag(img)
	if s := x.c.Status(); !s.DownSince.IsZero() {
		t.Errorf("down since %v although it answers", s.DownSince)
	}
}

func TestLeavingCallerIsNoOutage(t *testing.T) {
	x := newTester(t, func(c *Config) { c.HeaderTimeout = time.Minute })
	x.hub.AddImage("library/app", "v1")
	x.hub.Fault(hubtest.All(), hubtest.Stall())
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := x.c.Head(ctx, "library/app", "v1")
		errs <- err
	}()
	x.hub.Wait(nil, 1)
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) || Outage(err) {
		t.Errorf("%v", err)
	}
	if s := x.c.Status(); !s.DownSince.IsZero() {
		t.Error("a caller that left made the upstream look down")
	}
}

func TestRateLimitIsShown(t *testing.T) {
	x := newTester(t, nil)
	x.hub.AddImage("library/app", "v1")
	x.hub.Fault(hubtest.Manifests(), hubtest.Header("RateLimit-Limit", "100;w=21600"), hubtest.Header("RateLimit-Remaining", "76;w=21600"))
	if _, err := x.c.Head(t.Context(), "library/app", "v1"); err != nil {
		t.Fatal(err)
	}
	if r := x.c.Status().RateLimit; r.Limit != 100 || r.Remaining != 76 || r.Window != 6*time.Hour {
		t.Errorf("%+v", r)
	}
}

func TestTagsPageByPage(t *testing.T) {
	x := newTester(t, nil)
	for _, tag := range []string{"a", "b", "c"} {
		x.hub.AddImage("library/app", tag)
	}
	tags, next, err := x.c.Tags(t.Context(), "library/app", 2, "")
	if err != nil || strings.Join(tags, " ") != "a b" || next != "b" {
		t.Fatalf("first page %v, next %q, %v", tags, next, err)
	}
	tags, next, err = x.c.Tags(t.Context(), "library/app", 2, next)
	if err != nil || strings.Join(tags, " ") != "c" || next != "" {
		t.Fatalf("last page %v, next %q, %v", tags, next, err)
	}
	_, _, err = x.c.Tags(t.Context(), "library/none", 0, "")
	x.wantMissing(err)
	x.hub.Fault(hubtest.Of(hubtest.Tags), hubtest.ErrorPage())
	_, _, err = x.c.Tags(t.Context(), "library/app", 0, "")
	x.wantOutage(err)
}

func TestUnknownNameIsAnOutage(t *testing.T) {
	x := newTester(t, func(c *Config) { c.URL = "http://registry.invalid" })
	x.within(time.Second, func(ctx context.Context) {
		_, err := x.c.Head(ctx, "library/app", "v1")
		x.wantOutage(err)
	})
}
