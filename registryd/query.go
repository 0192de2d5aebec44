package registryd

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

const (
	// maxQuery bounds the query in bytes. The longest honest one is a page of
	// tags of a mirrored repository: ns, n and last, each below 300.
	maxQuery = 2048
	// maxNamespace bounds ?ns=: a host name has at most 253 bytes, and a port.
	maxNamespace = 260
	// maxPage bounds one page of tags or repositories, so that a page is below
	// 2 MiB; the rest follows by Link.
	maxPage = 10_000
)

// namespace returns the value of ns, the upstream's host as containerd, BuildKit
// and regctl name it, without building the map that url.ParseQuery builds: it is
// on every request's way.
func namespace(query string) (string, error) {
	if len(query) > maxQuery {
		return "", errcode.ErrorCodeNameInvalid.WithMessage("the query is longer than any client's")
	}
	ns, found := "", false
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		v, ok := strings.CutPrefix(pair, "ns=")
		if !ok {
			continue
		}
		if found {
			return "", errcode.ErrorCodeNameInvalid.WithMessage("ns is given twice")
		}
		ns, found = v, true
	}
	if strings.ContainsAny(ns, "%+") {
		var err error
		if ns, err = url.QueryUnescape(ns); err != nil {
			return "", errcode.ErrorCodeNameInvalid.WithMessage("ns is not properly encoded")
		}
	}
	if len(ns) > maxNamespace || strings.ContainsFunc(ns, func(c rune) bool { return c <= ' ' || c > '~' || c == '/' }) {
		return "", errcode.ErrorCodeNameInvalid.WithMessage("ns is not the name of a host")
	}
	return ns, nil
}

// A page is what a client asks of a list: at most n entries after last.
type page struct {
	n    int
	last string
}

// parsePage reads n and last; without n a page has maxPage entries.
func parsePage(query string) (page, error) {
	p := page{n: maxPage}
	q, err := url.ParseQuery(query)
	if err != nil {
		return p, errcode.ErrorCodePaginationNumberInvalid.WithMessage("the query is not properly encoded")
	}
	p.last = q.Get("last")
	if s := q.Get("n"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return p, errcode.ErrorCodePaginationNumberInvalid.WithMessage("n must be a number that is not negative")
		}
		p.n = min(n, maxPage)
	}
	return p, nil
}

// next is the URL of the page after this one, which ended with last.
func (p page) next(path, ns, last string) string {
	q := url.Values{"n": {strconv.Itoa(p.n)}, "last": {last}}
	if ns != "" {
		q.Set("ns", ns)
	}
	return path + "?" + q.Encode()
}
