package registryd

import (
	"fmt"
	"strings"
	"testing"

	"hostlocal/manifest"
)

// A stranger's index lists another one as often as it may, and that one an image
// that is not whole, as often: a tour of all entries would take hours.
func TestTourOfWideIndexesEnds(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
		d := im.d
		for range 2 {
			entry := fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":1}`, manifest.OCIIndex, d)
			body := []byte(`{"schemaVersion":2,"mediaType":"` + manifest.OCIIndex + `","manifests":[` +
				strings.Repeat(entry+",", 16<<10-1) + entry + `]}`)
			if len(body) > manifest.MaxSize {
				t.Fatalf("%d bytes", len(body))
			}
			m, err := manifest.Parse(body)
			if err != nil {
				t.Fatal(err)
			}
			w.g.admit(w.repo("library/app"), m, SourceUpstream)
			d = m.Digest
		}
		whole, note := w.g.tour(), w.g.tour()
		if whole.whole(d, maxTourDepth) {
			w.t.Error("an image without its layers is whole")
		}
		note.note(newRepository(manifest.Name{Host: "docker.io", Path: "library/app"}, ""), d, maxTourDepth)
		if len(whole.seen) != 3 || len(note.seen) != 3 {
			w.t.Errorf("%d and %d manifests seen of 3", len(whole.seen), len(note.seen))
		}
	})
}
