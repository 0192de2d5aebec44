package registryd

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// tags answers with a page of a repository's tags.
func (h *Handler) tags(w *response, r *http.Request, t target, ns string, repo Repository) error {
	p, err := parsePage(r.URL.RawQuery)
	if err != nil {
		return err
	}
	tags, more, err := h.contents.Tags(r.Context(), repo, max(p.n, 1), p.last)
	if err != nil {
		return err
	}
	tags, more = p.cut(tags, more)
	if more {
		setNext(w, p.next("/v2/"+t.name+"/tags/list", ns, tags[len(tags)-1]))
	}
	source := SourceStore
	if !repo.Name.IsOwn() {
		source = SourceUpstream
	}
	return writeJSON(w, source, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{t.name, tags})
}

// catalog answers with a page of the bucket's own repositories.
func (h *Handler) catalog(w *response, r *http.Request) error {
	p, err := parsePage(r.URL.RawQuery)
	if err != nil {
		return err
	}
	names, more, err := h.contents.Catalog(r.Context(), max(p.n, 1), p.last)
	if err != nil {
		return err
	}
	names, more = p.cut(names, more)
	if more {
		setNext(w, p.next("/v2/_catalog", "", names[len(names)-1]))
	}
	return writeJSON(w, SourceStore, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// cut holds a list to the page's length, which may be nothing: "n=0" asks
// whether the list exists. The list is never null in JSON.
func (p page) cut(list []string, more bool) ([]string, bool) {
	if len(list) > p.n {
		list, more = list[:p.n], true
	}
	if len(list) == 0 {
		return []string{}, false
	}
	return list, more
}

// setNext points to the next page, as RFC 5988 has it.
func setNext(w http.ResponseWriter, url string) {
	w.Header().Set("Link", "<"+url+`>; rel="next"`)
}

// writeJSON answers with v; an error has not been answered.
func writeJSON(w *response, source string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Docker-Distribution-Api-Version"] = apiVersion
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.setSource(source)
	w.Write(body) // a client that does not take it has left
	return nil
}
