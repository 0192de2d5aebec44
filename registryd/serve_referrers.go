package registryd

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

// referrers answers with an index of what refers to a manifest, which need not be
// there: of one artifact type if the client names one. What does not fit into a
// manifest comes in pages, each of which begins behind the digest in "last".
func (h *Handler) referrers(w *response, r *http.Request, t target, ns string, repo Repository) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errcode.ErrorCodePaginationNumberInvalid.WithMessage("the query is not properly encoded")
	}
	all, err := h.contents.Referrers(r.Context(), repo, t.digest)
	if err != nil {
		return err
	}
	body, next, err := referrersPage(all.List, q.Get("artifactType"), q.Get("last"), manifest.MaxSize)
	if err != nil {
		return err
	}
	hd := w.Header()
	if q.Get("artifactType") != "" {
		hd.Set("Oci-Filters-Applied", "artifactType")
	}
	if next != "" {
		more := url.Values{"last": {next}}
		for k, v := range map[string]string{"ns": ns, "artifactType": q.Get("artifactType")} {
			if v != "" {
				more.Set(k, v)
			}
		}
		setNext(w, "/v2/"+t.name+"/referrers/"+t.digest.String()+"?"+more.Encode())
	}
	if all.Warning != "" {
		hd.Set("Warning", all.Warning)
	}
	hd.Set("Content-Type", manifest.OCIIndex)
	hd["Docker-Distribution-Api-Version"] = apiVersion
	hd.Set("Content-Length", strconv.Itoa(len(body)))
	w.setSource(all.Source)
	w.Write(body) // a client that does not take it has left
	return nil
}

// referrersPage makes an index of at most limit bytes of those in list that are of the
// artifact type, if one is asked for, and come after last. next is the last of them if
// there are more.
func referrersPage(list []manifest.Descriptor, artifactType, last string, limit int) (body []byte, next string, err error) {
	const end = `]}`
	body = append(make([]byte, 0, 512), `{"schemaVersion":2,"mediaType":"`+manifest.OCIIndex+`","manifests":[`...)
	start := len(body)
	for _, d := range sortedReferrers(list) {
		if artifactType != "" && d.ArtifactType != artifactType || last != "" && d.Digest.String() <= last {
			continue
		}
		entry, err := json.Marshal(d)
		if err != nil {
			return nil, "", err
		}
		if len(body)+1+len(entry)+len(end) > limit && len(body) > start {
			return append(body, end...), next, nil
		}
		if len(body) > start {
			body = append(body, ',')
		}
		body, next = append(body, entry...), d.Digest.String()
	}
	return append(body, end...), "", nil
}

// sortedReferrers returns a list in the order of its digests, each once.
func sortedReferrers(list []manifest.Descriptor) []manifest.Descriptor {
	byDigest := func(a, b manifest.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) }
	list = slices.Clone(list)
	slices.SortFunc(list, byDigest)
	return slices.CompactFunc(list, func(a, b manifest.Descriptor) bool { return a.Digest == b.Digest })
}
