package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"hostlocal/registryd/upstream/hubtest"
)

func head(x *tester, repo string) error {
	_, err := x.c.Head(x.Context(), repo, "v1")
	return err
}

func TestTokensAreFetchedOnceAndKept(t *testing.T) {
	for name, auth := range map[string]hubtest.Auth{"here": {}, "elsewhere": {Separate: true}, "access_token": {Field: "access_token"}, "no expiry": {NoExpiry: true}} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, nil)
			img := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
			other := x.hub.AddImage("library/other", "v1", x.hub.Layer(1000))
			x.hub.Require(auth)
			heads, tokens := hubtest.NewGate(), hubtest.NewGate()
			unknown := x.hub.Fault(hubtest.Of(hubtest.HeadManifest), hubtest.Hold(heads))
			x.hub.Fault(hubtest.Of(hubtest.Token), hubtest.Hold(tokens))
			errs := make(chan error)
			for range 8 {
				go func() { errs <- head(x, "library/app") }()
			}
			x.hub.Wait(hubtest.Of(hubtest.HeadManifest), 8) // none of them knows the way in
			unknown.Remove()
			heads.Open()
			x.hub.Wait(hubtest.Of(hubtest.Token), 1)
			tokens.Open()
			for range 8 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			x.wantBlob(img.Layers[0])
			x.count(1, hubtest.Token)
			before := x.hub.Count(hubtest.HeadManifest)
			x.wantTag(other)
			x.count(2, hubtest.Token)
			x.count(before+1, hubtest.HeadManifest) // no second challenge: the way in is known
			if s := x.c.Status(); s.Auth != "bearer" || s.Tokens != 2 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestTokensAreRenewed(t *testing.T) {
	x := newTester(t, nil)
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
	x.hub.Require(hubtest.Auth{})
	x.wantTag(img)
	x.hub.Revoke()
	x.wantTag(img)
	x.wantBlob(img.Layers[0])
	x.count(2, hubtest.Token)

	// A token whose time is up is replaced without being tried.
	x.c.auth.mu.Lock()
	old, _ := x.c.auth.tokens.Get("library/app")
	if left := time.Until(old.until); left < 4*time.Minute || left > 4*time.Minute+30*time.Second {
		t.Errorf("a token of five minutes is used for %v", left)
	}
	old.until = time.Now()
	x.c.auth.tokens.Add("library/app", old)
	x.c.auth.mu.Unlock()
	x.hub.Forget()
	x.wantTag(img)
	x.count(1, hubtest.Token)
	x.count(1, hubtest.HeadManifest)
}

func TestCredentialsOpenWhatIsPrivate(t *testing.T) {
	for name, auth := range map[string]hubtest.Auth{
		"token":   {Username: "u", Password: "p", Separate: true},
		"private": {Username: "u", Password: "p", Anonymous: true, Private: []string{"library/app"}},
		"basic":   {Username: "u", Password: "p", Basic: true},
	} {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t)
			img := hub.AddImage("library/app", "v1", hub.Layer(1000))
			hub.Require(auth)
			known := testerOf(t, hub, func(c *Config) { c.Username, c.Password = "u", "p" })
			known.wantTag(img)
			known.wantBlob(img.Layers[0])
			wrong := testerOf(t, hub, func(c *Config) { c.Username, c.Password = "u", "x" })
			wrong.wantDenied(head(wrong, "library/app"))
			nobody := testerOf(t, hub, nil)
			nobody.wantDenied(head(nobody, "library/app"))
			if s := nobody.c.Status(); !s.DownSince.IsZero() {
				t.Errorf("a refusal is not an outage: %+v", s)
			}
			for _, q := range hub.Requests(nil) {
				h := q.Header.Get("Authorization")
				if !auth.Basic && q.Kind != hubtest.Token && strings.HasPrefix(h, "Basic ") {
					t.Errorf("the password went to %s %s%s", q.Method, q.Host, q.Path)
				}
			}
		})
	}
}

func TestRegistryTokenIsSentAsItIs(t *testing.T) {
	x := newTester(t, func(c *Config) {
		c.Keychain = keychain(func(authn.Resource) (authn.Authenticator, error) {
			return authn.FromConfig(authn.AuthConfig{RegistryToken: "mine"}), nil
		})
	})
	x.hub.AddImage("library/app", "v1")
	x.hub.Require(hubtest.Auth{})
	x.wantDenied(head(x, "library/app"))
	x.count(0, hubtest.Token)
	if q := x.hub.Requests(hubtest.Of(hubtest.HeadManifest)); len(q) != 2 || q[1].Header.Get("Authorization") != "Bearer mine" {
		t.Errorf("%d requests", len(q))
	}
}

func TestFailingTokenServerIsAnOutage(t *testing.T) {
	for name, fault := range map[string]hubtest.Fault{"stall": hubtest.Stall(), "stalled body": hubtest.StallAfter(3), "503": hubtest.Status(503), "404": hubtest.Status(404), "429": hubtest.TooMany(3600),
		"page": hubtest.ErrorPage(), "endless": hubtest.Endless(), "cut": hubtest.CutEvery(3), "drop": hubtest.Drop()} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, impatient)
			img := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
			x.hub.Require(hubtest.Auth{})
			x.hub.Fault(hubtest.Of(hubtest.Token), fault)
			x.within(3*time.Second, func(ctx context.Context) {
				_, err := x.c.Head(ctx, "library/app", "v1")
				x.wantOutage(err)
			})
			if s := x.c.Status(); s.DownSince.IsZero() {
				t.Errorf("status %+v", s)
			}
			x.hub.Heal()
			x.c.auth.running.Wait()
			x.wantTag(img)
		})
	}
}

func TestCredentialsGoNowhereElse(t *testing.T) {
	thief := hubtest.New(t)
	thief.Require(hubtest.Auth{})
	for name, realm := range map[string]string{
		"another host":      "http://localhost:" + port(thief.Host) + "/token",
		"another's name":    "http://auth.hub.test/token",
		"with credentials":  "http://u:p@127.0.0.1/token",
		"no host":           "/token",
		"not http":          "file:///etc/passwd",
		"an address inside": "http://169.254.169.254/latest/meta-data",
	} {
		t.Run(name, func(t *testing.T) {
			x := newTester(t, func(c *Config) { c.Username, c.Password = "u", "p" })
			x.hub.AddImage("library/app", "v1")
			x.hub.Require(hubtest.Auth{Realm: realm})
			x.wantOutage(head(x, "library/app"))
		})
	}
	if n := len(thief.Requests(nil)); n != 0 {
		t.Fatalf("the other host was asked %d times", n)
	}

	t.Run("unless it is named", func(t *testing.T) {
		x := newTester(t, func(c *Config) {
			c.Username, c.Password, c.AuthHosts = "u", "p", []string{"localhost"}
		})
		x.hub.AddImage("library/app", "v1")
		x.hub.Require(hubtest.Auth{Realm: "http://localhost:" + port(thief.Host) + "/token"})
		x.wantDenied(head(x, "library/app")) // its tokens are good for nothing here
		if n := thief.Count(hubtest.Token); n != 1 {
			t.Errorf("the named host was asked %d times", n)
		}
	})
}

func port(host string) string { return host[strings.LastIndex(host, ":")+1:] }

func TestIdentityTokenIsTradedByPost(t *testing.T) {
	x := newTester(t, func(c *Config) {
		c.Keychain = keychain(func(r authn.Resource) (authn.Authenticator, error) {
			return authn.FromConfig(authn.AuthConfig{Username: "<token>", IdentityToken: "refresh"}), nil
		})
	})
	img := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
	x.hub.Require(hubtest.Auth{Identity: "refresh"})
	x.wantTag(img)
	if q := x.hub.Requests(hubtest.Of(hubtest.Token)); len(q) != 1 || q[0].Method != "POST" || strings.Contains(q[0].Query, "refresh") {
		t.Errorf("token requests: %+v", q)
	}
}

type keychain func(authn.Resource) (authn.Authenticator, error)

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) { return k(r) }

func TestDockerConfigIsRead(t *testing.T) {
	hub := hubtest.New(t)
	img := hub.AddImage("library/app", "v1", hub.Layer(1000))
	hub.Require(hubtest.Auth{Username: "u", Password: "p"})
	secret := base64.StdEncoding.EncodeToString([]byte("u:p"))
	helper := "#!/bin/sh\nread host\ncase $host in hub.test) echo '{\"ServerURL\":\"hub.test\",\"Username\":\"u\",\"Secret\":\"p\"}';; *) echo credentials not found in native keychain; exit 1;; esac\n"
	for name, config := range map[string]string{
		"auths by host":  `{"auths":{"` + hub.Host + `":{"auth":"` + secret + `"}}}`,
		"auths by name":  `{"auths":{"hub.test":{"auth":"` + secret + `"}}}`,
		"credHelpers":    `{"credHelpers":{"hub.test":"fake"}}`,
		"credsStore":     `{"credsStore":"fake"}`,
		"another's only": `{"auths":{"other.test":{"auth":"` + secret + `"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("HOME", dir)
			t.Setenv("DOCKER_CONFIG", dir)
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			for file, text := range map[string]string{"config.json": config, "docker-credential-fake": helper} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			x := testerOf(t, hub, func(c *Config) { c.Keychain = authn.DefaultKeychain })
			if name == "another's only" {
				x.wantDenied(head(x, "library/app"))
				return
			}
			x.wantTag(img)
		})
	}
}

func TestBrokenHelperIsAnOutageOnlyWhereItMatters(t *testing.T) {
	broken := errors.New("helper: vault is sealed")
	x := newTester(t, func(c *Config) {
		c.Keychain = keychain(func(authn.Resource) (authn.Authenticator, error) { return nil, broken })
	})
	open := x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
	x.hub.AddImage("library/private", "v1")
	x.hub.Require(hubtest.Auth{Username: "u", Password: "p", Anonymous: true, Private: []string{"library/private"}})
	x.wantTag(open)
	if err := head(x, "library/private"); !errors.Is(err, broken) || !Outage(err) {
		t.Errorf("%v", err)
	}
}

func TestDockerHubsCredentialsAreFoundUnderItsOldName(t *testing.T) {
	c, err := New(Config{Name: "docker.io", URL: "https://registry-1.docker.io"})
	if err != nil {
		t.Fatal(err)
	}
	if names := strings.Join(c.names(), " "); names != "registry-1.docker.io docker.io index.docker.io" {
		t.Error(names)
	}
}

func TestScopesOfTheirOwnAreAskedFor(t *testing.T) {
	c, err := New(Config{URL: "https://public.ecr.aws"})
	if err != nil {
		t.Fatal(err)
	}
	w, ok, err := c.chooseWay(parseChallenges([]string{`Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`}))
	if !ok || err != nil || w != (way{"bearer", "https://public.ecr.aws/token/", "public.ecr.aws", "aws"}) {
		t.Errorf("%+v, %v, %v", w, ok, err)
	}
	w, _, _ = c.chooseWay(parseChallenges([]string{`Bearer realm="https://public.ecr.aws/token/",scope="repository:other:push"`}))
	if w.scope != "" {
		t.Errorf("another repository's scope %q would be asked for", w.scope)
	}
}

func TestCloseEndsTokenRequests(t *testing.T) {
	x := newTester(t, func(c *Config) { c.HeaderTimeout = time.Minute })
	x.hub.AddImage("library/app", "v1", x.hub.Layer(1000))
	x.hub.Require(hubtest.Auth{})
	x.hub.Fault(hubtest.Of(hubtest.Token), hubtest.Stall())
	asked := make(chan error, 1)
	go func() { asked <- head(x, "library/app") }()
	x.hub.Wait(hubtest.Of(hubtest.Token), 1)
	start := time.Now()
	x.c.Close()
	if took := time.Since(start); took > tokenTimeout/2 {
		t.Errorf("Close took %v: it waited for a token server that says nothing", took)
	}
	if err := <-asked; err == nil {
		t.Error("the answer came from nowhere")
	}
}
