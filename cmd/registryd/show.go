package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// hidden stands where a secret is. It is not a value that a file could have meant.
const hidden = `"********"`

// show writes the effective configuration as a file that would give the same one,
// and behind each value where it was said.
func (c *config) show(w io.Writer) {
	printer := printer{w: w}
	for _, f := range c.fields() {
		if f.value.String() == "" {
			if _, many := f.value.(list); !many {
				continue // no value is the key's absence
			}
		}
		origin := c.origin[f.key]
		if origin == "" {
			origin = "default"
		}
		printer.field(f, origin)
	}
	origin := c.origin["upstreams"]
	if origin == "" {
		origin = "default"
	}
	fmt.Fprintf(w, "upstreams: # %s\n", origin)
	for i := range c.upstreams {
		u := &c.upstreams[i]
		fmt.Fprintf(w, "  %s:\n", plain(u.name))
		for _, f := range u.fields() {
			if f.value.String() != "" {
				fmt.Fprintf(w, "    %s: %s\n", f.key, render(f))
			}
		}
		fmt.Fprintf(w, "    tags:\n")
		for j := range u.tags {
			var words []string
			for _, f := range u.tags[j].fields() {
				words = append(words, f.key+": "+render(f))
			}
			fmt.Fprintf(w, "      - {%s}\n", strings.Join(words, ", "))
		}
	}
	c.showWebhooks(w)
}

// showWebhooks writes the list of webhooks. What is in their headers is as a rule a
// token.
func (c *config) showWebhooks(w io.Writer) {
	if len(c.webhooks) == 0 {
		return // no list is the key's absence
	}
	fmt.Fprintf(w, "webhooks: # %s\n", c.origin["webhooks"])
	for i := range c.webhooks {
		h := &c.webhooks[i]
		lead := "  - "
		for _, f := range h.fields() {
			if f.value.String() != "" {
				fmt.Fprintf(w, "%s%s: %s\n", lead, f.key, render(f))
				lead = "    "
			}
		}
		if len(h.headers) > 0 {
			fmt.Fprintf(w, "    headers:\n")
		}
		for _, name := range slices.Sorted(maps.Keys(h.headers)) {
			fmt.Fprintf(w, "      %s: %s\n", plain(name), hidden)
		}
	}
}

// A printer writes dotted keys as nested ones.
type printer struct {
	w     io.Writer
	above []string // the keys that are open, outermost first
}

func (p *printer) field(f field, origin string) {
	parts := strings.Split(f.key, ".")
	last := len(parts) - 1
	common := 0
	for common < last && common < len(p.above) && p.above[common] == parts[common] {
		common++
	}
	for i := common; i < last; i++ {
		fmt.Fprintf(p.w, "%s%s:\n", strings.Repeat("  ", i), parts[i])
	}
	p.above = parts[:last]
	fmt.Fprintf(p.w, "%s%s: %s # %s\n", strings.Repeat("  ", last), parts[last], render(f), origin)
}

// render returns a field's value as YAML.
func render(f field) string {
	if f.secret {
		return hidden
	}
	l, many := f.value.(list)
	if !many {
		return plain(f.value.String())
	}
	var words []string
	for _, word := range *l.to {
		words = append(words, plain(word))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// plainWord is what YAML takes for text without quotes, here and inside of {}.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./:@+%-]*[A-Za-z0-9_./@+%-]$|^[A-Za-z0-9]$`)

// plain returns s as a YAML scalar, quoted if need be.
func plain(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	quoted, _ := json.Marshal(s) // a string always marshals, and YAML reads JSON's strings
	return string(quoted)
}
