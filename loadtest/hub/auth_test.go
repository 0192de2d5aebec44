package hub

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func token(t *testing.T, url string, kv ...string) string {
	t.Helper()
	f := fetch(t, "GET", url, kv...)
	var body struct{ Token string }
	if f.status != 200 || json.Unmarshal(f.body, &body) != nil {
		t.Fatalf("token: %d %s", f.status, f.body)
	}
	return "Bearer " + body.Token
}

func TestTokensOpenWhatTheyAreFor(t *testing.T) {
	h := start(t)
	h.AddImage("open", "v1")
	h.AddImage("closed", "v1")
	h.Require(Auth{Username: "u", Password: "p", Anonymous: true, Private: []string{"closed"}, Separate: true, Expires: time.Hour})
	get := func(repo, auth string) int {
		return fetch(t, "GET", h.URL+"/v2/"+repo+"/manifests/v1", "Authorization", auth).status
	}
	f := fetch(t, "GET", h.URL+"/v2/open/manifests/v1")
	if c := f.header.Get("Www-Authenticate"); f.status != 401 || !strings.Contains(c, h.TokenHost()) || !strings.Contains(c, `scope="repository:open:pull"`) {
		t.Fatalf("challenge: %d %q", f.status, c)
	}
	realm := "http://" + h.TokenHost() + "/token?service=hubtest&scope=repository:open:pull&scope=repository:closed:pull"
	anonymous, known := token(t, realm), token(t, realm, "Authorization", "Basic dTpw")
	if a, b := get("open", anonymous), get("closed", anonymous); a != 200 || b != 401 {
		t.Errorf("anonymous token: open %d, closed %d", a, b)
	}
	if a, b := get("open", known), get("closed", known); a != 200 || b != 200 {
		t.Errorf("token with credentials: open %d, closed %d", a, b)
	}
	if f := fetch(t, "GET", realm, "Authorization", "Basic dTp4"); f.status != 401 {
		t.Errorf("wrong password: %d", f.status)
	}
	h.Revoke()
	if a := get("open", known); a != 401 {
		t.Errorf("revoked token: %d", a)
	}
	if n := h.Count(Token); n != 3 {
		t.Errorf("%d token requests, not 3", n)
	}
}

func TestBasicIsAskedOfTheRegistryItself(t *testing.T) {
	h := start(t)
	h.Require(Auth{Username: "u", Password: "p", Basic: true})
	if f := fetch(t, "GET", h.URL+"/v2/"); f.status != 401 || !strings.HasPrefix(f.header.Get("Www-Authenticate"), "Basic ") {
		t.Errorf("challenge: %d %v", f.status, f.header)
	}
	if f := fetch(t, "GET", h.URL+"/v2/", "Authorization", "Basic dTpw"); f.status != 200 {
		t.Errorf("with credentials: %d", f.status)
	}
}
