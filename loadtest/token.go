package loadtest

import (
	"encoding/json"
	"net/url"
	"strings"
)

// authorize fetches the token that a Bearer challenge asks for
// (distribution.github.io/distribution/spec/auth/token), anonymously, and reports
// whether there is one. Each client fetches its own, as hosts do.
func (c *client) authorize(challenge string) (bool, error) {
	rest, ok := strings.CutPrefix(challenge, "Bearer ")
	if !ok {
		return false, nil
	}
	said := parameters(rest)
	realm, err := url.Parse(said["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return false, nil
	}
	query := realm.Query()
	for _, key := range []string{"service", "scope"} {
		if said[key] != "" {
			query.Set(key, said[key])
		}
	}
	realm.RawQuery = query.Encode()
	x, err := c.once(request{kind: "token", method: "GET"}, realm)
	if err != nil {
		return false, err
	}
	if x.StatusCode != 200 {
		return false, x.refuse()
	}
	body, err := x.all(maxToken)
	if err := x.end(err); err != nil {
		return false, err
	}
	var got struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return false, failed("bad answer", "GET %s: %w", realm, err)
	}
	if got.Token == "" {
		got.Token = got.AccessToken
	}
	if got.Token == "" || strings.ContainsAny(got.Token, "\r\n") {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = got.Token
	return true, nil
}

// maxToken bounds a token server's answer, in bytes. Docker Hub's has 5 KiB.
const maxToken = 256 << 10

func (c *client) bearer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

// parameters reads a challenge's key="value" list (RFC 9110, 11.2).
func parameters(s string) map[string]string {
	all := map[string]string{}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			var b strings.Builder
			i := 0
			for ; i < len(quoted) && quoted[i] != '"'; i++ {
				if quoted[i] == '\\' && i+1 < len(quoted) {
					i++
				}
				b.WriteByte(quoted[i])
			}
			value, rest = b.String(), quoted[min(i+1, len(quoted)):]
			_, s, _ = strings.Cut(rest, ",")
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		all[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return all
}
