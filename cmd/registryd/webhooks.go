package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"hostlocal/registryd/notify"
)

// webhooksFile is where in the cache folder the events wait that no webhook has yet.
const webhooksFile = "webhooks"

// The bounds of a webhook's time-out: below, a receiver across the network that does
// anything at all fails; above, one that hangs holds up its own events for longer
// than anybody waits.
const (
	minWebhookTimeout = time.Second
	maxWebhookTimeout = 10 * time.Second
)

// webhookConfig is an address that is told of pushes, deletes and pulls.
type webhookConfig struct {
	name               string
	url                string
	secret, secretFile string
	headers            map[string]string // beside those of every request
	actions            []string
	repositories       []string // patterns; none: all
	timeout            time.Duration

	place int // in the list
	line  int // in the file
}

// newWebhook is the webhook in that place of the list, of which nothing was said.
func newWebhook(place int) *webhookConfig {
	return &webhookConfig{place: place, actions: []string{notify.Push, notify.Delete}, timeout: notify.DefaultTimeout}
}

func (h *webhookConfig) fields() []field {
	return []field{
		{key: "name", value: text{&h.name}},
		{key: "url", value: text{&h.url}},
		{key: "secret", value: text{&h.secret}, secret: true},
		{key: "secret_file", value: text{&h.secretFile}},
		{key: "actions", value: list{&h.actions}},
		{key: "repositories", value: list{&h.repositories}},
		{key: "timeout", value: span{&h.timeout}},
	}
}

// path is how messages name the place in the file.
func (h *webhookConfig) path() string { return fmt.Sprintf("webhooks[%d]", h.place) }

// checkWebhooks checks each webhook by itself, and that their names differ.
func (c *config) checkWebhooks(p *problems) {
	if len(c.webhooks) > notify.MaxEndpoints {
		p.add(c.origin["webhooks"], "webhooks: there are %d; at most %d are told", len(c.webhooks), notify.MaxEndpoints)
	}
	names := map[string]bool{}
	for i := range c.webhooks {
		h := &c.webhooks[i]
		h.check(p)
		if h.name != "" && names[h.name] {
			p.add(at(h.line), "%s.name: %s", h.path(), quoted(h.name, "is another webhook's; each needs its own, by which its events are kept"))
		}
		names[h.name] = true
	}
}

// webhookName is what a name may be: a metric's label, a word in the log.
var webhookName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// check checks what concerns only this webhook.
func (h *webhookConfig) check(p *problems) {
	bad := func(key, what string) { p.add(at(h.line), "%s.%s: %s", h.path(), key, what) }
	switch {
	case h.name == "":
		bad("name", "is missing; write a short word, such as ci, and keep it: events that wait are kept by it")
	case !webhookName.MatchString(h.name):
		bad("name", quoted(h.name, "is not a name; write up to 64 letters, digits, dots, dashes and underscores"))
	}
	u, err := url.Parse(h.url)
	switch {
	case h.url == "":
		bad("url", "is missing; write https://host/path")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		bad("url", "is not an address; write https://host/path")
	case u.User != nil:
		bad("url", "carries credentials; write them as a header (headers: {Authorization: Bearer ...}), or sign with secret_file")
	case u.Fragment != "":
		bad("url", "has a part behind #, which is never sent")
	}
	if h.secret != "" && h.secretFile != "" {
		bad("secret", "is given twice; write secret or secret_file")
	}
	if h.secretFile != "" {
		if f, err := os.Open(h.secretFile); err != nil {
			bad("secret_file", err.Error())
		} else {
			f.Close()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.headers)) {
		if what := checkHeader(name, h.headers[name]); what != "" {
			bad("headers."+name, what)
		}
	}
	h.checkFilter(bad)
	if h.timeout < minWebhookTimeout || h.timeout > maxWebhookTimeout {
		bad("timeout", quoted(h.timeout.String(), fmt.Sprintf("is not from %s to %s", minWebhookTimeout, maxWebhookTimeout)))
	}
}

// checkFilter checks what says which events go there.
func (h *webhookConfig) checkFilter(bad func(key, what string)) {
	if len(h.actions) == 0 {
		bad("actions", "lists none; write [push, delete], or leave it out")
	}
	for _, a := range h.actions {
		if a != notify.Push && a != notify.Delete && a != notify.Pull {
			bad("actions", quoted(a, "is not known here; write push, delete or pull"))
		}
	}
	for _, r := range h.repositories {
		if strings.ContainsFunc(r, notInPattern) {
			bad("repositories", quoted(r, "is not a pattern; * stands for any letters and ? for one"))
		}
	}
}

// headerName is what net/http sends as one.
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// checkHeader returns what is wrong with a header, or "".
func checkHeader(name, value string) string {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Type", "Content-Length", "Transfer-Encoding", "Host", "Connection", notify.SignatureHeader:
		return "is not for a configuration to set; remove it"
	}
	if !headerName.MatchString(name) {
		return "is not a header's name"
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "has a line break or another control character, which no header may have"
	}
	return ""
}

// openWebhooks starts what tells the webhooks; nil if there are none.
func (w *wiring) openWebhooks() (*notify.Notifier, error) {
	if len(w.webhooks) == 0 {
		return nil, nil
	}
	o := notify.Options{
		File:    filepath.Join(w.config.cache.dir, webhooksFile),
		Account: w.cache.Account,
		Addr:    w.selfAddr(),
		Observe: w.metrics.ObserveWebhook,
		Log:     w.log,
	}
	for i := range w.webhooks {
		h := &w.webhooks[i]
		secret := h.secret
		if h.secretFile != "" {
			var err error
			if secret, err = readSecret(h.secretFile); err != nil {
				return nil, fmt.Errorf("%s.secret_file: %w", h.path(), err)
			}
		}
		o.Endpoints = append(o.Endpoints, notify.Endpoint{
			Name: h.name, URL: h.url, Secret: secret, Headers: h.headers,
			Actions: h.actions, Repositories: h.repositories, Timeout: h.timeout,
		})
	}
	n, err := notify.New(o)
	if err != nil {
		return nil, err
	}
	for i, e := range o.Endpoints {
		w.metrics.WatchWebhook(e.Name, func() int { return n.Waiting(i) })
	}
	w.closers = append(w.closers, n.Close)
	return n, nil
}

// selfAddr is this registry's address as others may know it: the host's name and the
// port of the first listener that has one.
func (c *config) selfAddr() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	for _, address := range c.listen {
		if _, port, err := net.SplitHostPort(address); err == nil && !strings.HasPrefix(address, "unix://") {
			return net.JoinHostPort(host, port)
		}
	}
	return host
}
