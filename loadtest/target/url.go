package target

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// reachLimit bounds how long a URL may take to answer before there is any load.
const reachLimit = 10 * time.Second

// reach makes a fleet of registries that run already, which may be several with
// commas between them. Each must answer.
func reach(ctx context.Context, urls string, remote bool) (*Fleet, error) {
	f := &Fleet{Name: urls, Settings: []string{"was running; its settings are not known here"}}
	for raw := range strings.SplitSeq(urls, ",") {
		base, err := checkURL(ctx, raw, remote)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, reachLimit)
		version, err := greet(ctx, base+"/v2/")
		cancel()
		if err != nil {
			return nil, err
		}
		f.Version = version
		f.Targets = append(f.Targets, loadtest.Target{URL: base})
	}
	return f, nil
}

// checkURL returns the URL without a slash at its end. What is not this host is an
// error unless it is allowed: load is sent only where somebody said so.
func checkURL(ctx context.Context, raw string, remote bool) (string, error) {
	u, err := url.Parse(strings.TrimRight(raw, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("%w %q: write it as http://HOST:PORT", ErrUnknown, raw)
	}
	if remote {
		return u.String(), nil
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrUnreachable, raw, err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return "", fmt.Errorf("%s is %w: if the load is really meant for it, add --allow-remote", raw, ErrRemote)
		}
	}
	return u.String(), nil
}

// greet asks for /v2/ as a client does, and returns what the server calls itself.
// 401 is an answer too: the clients know what to do with it.
func greet(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("%s %w; is it running? %w", strings.TrimSuffix(url, "/v2/"), ErrUnreachable, err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("%s %w as a registry: GET /v2/ gave %s", strings.TrimSuffix(url, "/v2/"), ErrUnreachable, resp.Status)
	}
	return resp.Header.Get("Server"), nil
}
