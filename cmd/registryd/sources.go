package main

import (
	"fmt"
	"time"

	"hostlocal/registryd/upstream"
	"hostlocal/s3store"
)

// sources is what the clients of the bucket and of the upstreams know of their
// other ends, beside what the registry made of it.
type sources struct {
	Store     s3store.Status    `json:"store"`
	Upstreams []upstream.Status `json:"upstreams"` // in the order of the configuration
}

// sources asks the clients; they answer from memory.
func (w *wiring) sources() sources {
	s := sources{Store: w.bucket.Status()}
	for _, u := range w.upstreams {
		s.Upstreams = append(s.Upstreams, w.clients[u.name].Status())
	}
	return s
}

// trouble is what /readyz names beside the outages that the registry knows of.
func (w *wiring) trouble() (lines []string) {
	if !w.cache.Stats().Scanned {
		lines = append(lines, "cache: the scan at start is not done yet; what to evict is chosen from a part of it")
	}
	if s := w.bucket.Status(); s.Writable == s3store.No {
		lines = append(lines, "store: read only for this host: "+s.Refusal)
	}
	return append(lines, w.webhookTrouble()...)
}

// webhookTrouble names the webhooks that do not take their events.
func (w *wiring) webhookTrouble() (lines []string) {
	if w.hooks == nil {
		return nil
	}
	for _, s := range w.hooks.Status() {
		if s.Trouble != "" {
			lines = append(lines, fmt.Sprintf("webhook %s: %s (since %s, %d events wait)", s.Name, s.Trouble, s.Since.UTC().Format(time.RFC3339), s.Waiting))
		}
	}
	return lines
}

// rateText is what is left of an upstream's limit, or "".
func (s sources) rateText(name string) string {
	for _, u := range s.Upstreams {
		if u.Name == name && u.RateLimit.Limit > 0 {
			return fmt.Sprintf(", %d of %d pulls left", u.RateLimit.Remaining, u.RateLimit.Limit)
		}
	}
	return ""
}
