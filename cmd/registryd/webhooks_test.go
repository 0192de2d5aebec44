package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/notify"
)

func TestEveryProblemOfAWebhookIsNamed(t *testing.T) {
	newTester(t).bad(`
webhooks:
  - url: ftp://ci.corp
    actions: [push, pusch]
    timeout: 1h
  - name: ci
    url: https://me:secret@ci.corp/
    secret: x
    secret_file: /absent/secret
    headers: {Content-Type: text/plain, "a b": c, X-Token: "a\nb", X-List: [a]}
    repositories: ["team/{a,b}"]
  - {name: ci, url: "https://ci.corp/#part", actions: []}
  - {name: "a b", uri: http://x}
`,
		`line 10: webhooks[1].headers.X-List: takes one value, not a list`,
		`line 13: unknown key "webhooks[3].uri"; did you mean "webhooks[3].url"?`,
		`line 3: webhooks[0].name: is missing; write a short word, such as ci, and keep it: events that wait are kept by it`,
		`line 3: webhooks[0].url: is not an address; write https://host/path`,
		`line 3: webhooks[0].actions: "pusch" is not known here; write push, delete or pull`,
		`line 3: webhooks[0].timeout: "1h0m0s" is not from 1s to 10s`,
		`line 6: webhooks[1].url: carries credentials; write them as a header (headers: {Authorization: Bearer ...}), or sign with secret_file`,
		`line 6: webhooks[1].secret: is given twice; write secret or secret_file`,
		`line 6: webhooks[1].secret_file: open /absent/secret: no such file or directory`,
		`line 6: webhooks[1].headers.Content-Type: is not for a configuration to set; remove it`,
		`line 6: webhooks[1].headers.X-Token: has a line break or another control character, which no header may have`,
		`line 6: webhooks[1].headers.a b: is not a header's name`,
		`line 6: webhooks[1].repositories: "team/{a" is not a pattern; * stands for any letters and ? for one`,
		`line 6: webhooks[1].repositories: "b}" is not a pattern; * stands for any letters and ? for one`,
		`line 12: webhooks[2].url: has a part behind #, which is never sent`,
		`line 12: webhooks[2].actions: lists none; write [push, delete], or leave it out`,
		`line 12: webhooks[2].name: "ci" is another webhook's; each needs its own, by which its events are kept`,
		`line 13: webhooks[3].name: "a b" is not a name; write up to 64 letters, digits, dots, dashes and underscores`,
		`line 13: webhooks[3].url: is missing; write https://host/path`,
	)
	newTester(t).bad("webhooks: {ci: x}", `line 1: webhooks is a list; write - {name: ci, url: https://ci.corp/registry} below it`)
}

func TestWebhooksAreShownWithoutTheirSecrets(t *testing.T) {
	tt := newTester(t)
	c := tt.good(`
webhooks:
  - {name: ci, url: "https://ci.corp/hook?a=b", secret: s3cret, headers: {Authorization: Bearer s3cret}, repositories: [team/*], actions: [push, pull], timeout: 2s}
  - {name: audit, url: http://127.0.0.1:80/}
`)
	var out bytes.Buffer
	c.show(&out)
	if strings.Contains(out.String(), "s3cret") {
		t.Errorf("a secret is shown:\n%s", &out)
	}
	again := tt.good(out.String())
	for i := range c.webhooks {
		c.webhooks[i].line, again.webhooks[i].line = 0, 0
	}
	if c.webhooks[0].secret = "********"; c.webhooks[0].headers["Authorization"] != "Bearer s3cret" {
		t.Errorf("the headers are %v", c.webhooks[0].headers)
	}
	c.webhooks[0].headers["Authorization"] = "********"
	if !reflect.DeepEqual(again.webhooks, c.webhooks) {
		t.Errorf("what is shown means\n%+v\nand not\n%+v\n%s", again.webhooks, c.webhooks, &out)
	}
	if h := again.webhooks[1]; h.timeout != notify.DefaultTimeout || !reflect.DeepEqual(h.actions, []string{"push", "delete"}) || h.repositories != nil {
		t.Errorf("by default it is %+v", h)
	}
}

// TestADaemonTellsItsWebhooks from the pull to the receiver, and says in its status
// and its metrics how they stand.
func TestADaemonTellsItsWebhooks(t *testing.T) {
	got := make(chan *http.Request, 100)
	bodies := make(chan []byte, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r
		bodies <- b
	}))
	defer receiver.Close()
	tt := newTester(t)
	secret := filepath.Join(tt.dir, "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := tt.good(`
cache: {dir: ` + tt.dir + `/cache, size: 1GiB, keep_free: 1MiB}
store: {url: "file://` + tt.dir + `/store"}
webhooks:
  - {name: ci, url: ` + receiver.URL + `, secret_file: ` + secret + `, actions: [push, pull]}
  - {name: dead, url: "http://127.0.0.1:1/", actions: [push]}
`)
	w := &wiring{config: c, log: newLogger(io.Discard, c.log)}
	if err := w.openCache(); err != nil {
		t.Fatal(err)
	}
	n, err := w.openWebhooks()
	if err != nil {
		t.Fatal(err)
	}
	w.hooks = n
	defer w.close(t.Context())
	r := httptest.NewRequest("PUT", "/v2/team/app/manifests/v1", nil)
	n.Pushed(r, "team/app", &manifest.Manifest{MediaType: manifest.OCIManifest, Digest: manifest.DigestOf(nil)}, "v1")
	req, body := <-got, <-bodies
	var in struct{ Events []notify.Event }
	if err := json.Unmarshal(body, &in); err != nil || len(in.Events) != 1 || in.Events[0].Target.Tag != "v1" || !strings.HasSuffix(in.Events[0].Source.Addr, ":5000") {
		t.Errorf("told was %s, %v", body, err)
	}
	if !strings.HasPrefix(req.Header.Get(notify.SignatureHeader), "sha256=") {
		t.Errorf("it came with %v", req.Header)
	}
	metrics := func() string {
		rec := httptest.NewRecorder()
		w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		return rec.Body.String()
	}
	for _, want := range []string{
		`registryd_webhook_events_total{endpoint="ci",result="sent"} 1`,
		`registryd_webhook_events_total{endpoint="dead",result="failed"} `,
		`registryd_webhook_queue{endpoint="ci"} 0`,
		`registryd_webhook_queue{endpoint="dead"} 1`,
	} {
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(metrics(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %s in\n%s", want, grep([]byte(metrics()), "webhook"))
			}
		}
	}
	if trouble := strings.Join(w.webhookTrouble(), "\n"); !strings.HasPrefix(trouble, "webhook dead: ") || !strings.Contains(trouble, "refused") || !strings.HasSuffix(trouble, "1 events wait)") {
		t.Errorf("/readyz says %q", trouble)
	}
	var out bytes.Buffer
	o := overview{Webhooks: n.Status()}
	o.show(&out)
	for _, want := range []string{"webhook\tci: ok, 0 waiting, 1 sent", "webhook\tdead: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("status has no %q:\n%s", want, &out)
		}
	}
}
