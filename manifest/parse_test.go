package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3"
	_ "github.com/distribution/distribution/v3/manifest/ocischema"
)

// js writes JSON with ' for " and DIGEST for one, so that a test can be read.
func js(format string, args ...any) []byte {
	s := strings.NewReplacer("'", `"`, "DIGEST512", someSHA512, "DIGEST", someSHA256).Replace(fmt.Sprintf(format, args...))
	return []byte(s)
}

const (
	aConfig = `'config':{'mediaType':'application/vnd.oci.image.config.v1+json','digest':'DIGEST','size':2}`
	aLayer  = `{'mediaType':'application/vnd.oci.image.layer.v1.tar+gzip','digest':'DIGEST','size':3}`
	anEntry = `{'mediaType':'application/vnd.oci.image.manifest.v1+json','digest':'DIGEST','size':4,'platform':{'os':'linux','architecture':'amd64'}}`
)

func TestMediaTypeIsReadFromTheBytes(t *testing.T) {
	for _, c := range []struct {
		body, want    string
		blobs, childs int
	}{
		{`{'schemaVersion':2,` + aConfig + `,'layers':[` + aLayer + `,` + aLayer + `]}`, OCIManifest, 3, 0},
		{`{'schemaVersion':2,'mediaType':'` + OCIManifest + `',` + aConfig + `,'layers':[]}`, OCIManifest, 1, 0},
		{`{'schemaVersion':2,'mediaType':'` + DockerManifest + `',` + aConfig + `,'layers':[` + aLayer + `]}`, DockerManifest, 2, 0},
		{`{'schemaVersion':2,'manifests':[` + anEntry + `]}`, OCIIndex, 0, 1},
		{`{'schemaVersion':2,'manifests':[]}`, OCIIndex, 0, 0},
		{`{'schemaVersion':2,'mediaType':'` + OCIIndex + `','manifests':[` + anEntry + `]}`, OCIIndex, 0, 1},
		{`{'schemaVersion':2,'mediaType':'` + DockerList + `','manifests':[` + anEntry + `,` + anEntry + `]}`, DockerList, 0, 2},
		// null is absent
		{`{'schemaVersion':2,'manifests':null,` + aConfig + `,'layers':null}`, OCIManifest, 1, 0},
		{`{'schemaVersion':2,'mediaType':'` + OCIIndex + `','manifests':null,'config':null,'layers':null}`, OCIIndex, 0, 0},
		// artifacts
		{`{'schemaVersion':2,'mediaType':'` + OCIManifest + `','artifactType':'a/b','config':{'mediaType':'application/vnd.oci.empty.v1+json','digest':'DIGEST','size':2,'data':'e30='},
			'subject':{'mediaType':'` + OCIManifest + `','digest':'DIGEST512','size':7},'annotations':{'k':'v'},'custom':{'deep':[1]}}`, OCIManifest, 1, 0},
		{`{'schemaVersion':2,'artifactType':'a/b','subject':{'mediaType':'` + OCIManifest + `','digest':'DIGEST','size':7},'manifests':[]}`, OCIIndex, 0, 0},
		// written carelessly, and run by every engine
		{`{` + aConfig + `,'layers':[{'digest':'DIGEST'}]}`, OCIManifest, 2, 0},
		{`{'schemaVersion':2,` + aConfig + `,'layers':[{'mediaType':'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip','digest':'DIGEST','size':1,'urls':['https://x.test/']}]}`, OCIManifest, 2, 0},
	} {
		body := js("%s", c.body)
		m, err := Parse(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if m.MediaType != c.want || len(m.Blobs()) != c.blobs || len(m.Children()) != c.childs || m.IsIndex() != (c.blobs == 0) {
			t.Errorf("%s: %s with %d blobs and %d children", body, m.MediaType, len(m.Blobs()), len(m.Children()))
		}
		if !bytes.Equal(m.Body, body) || m.Digest != DigestOf(body) || m.Descriptor().Size != int64(len(body)) {
			t.Errorf("%s: other bytes or another digest", body)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := strings.Repeat(`{'digest':'DIGEST'},`, MaxDescriptors) + `{'digest':'DIGEST'}`
	for _, c := range []struct{ body, want string }{
		{``, "unexpected end"},
		{`null`, "neither"},
		{`[]`, "cannot unmarshal"},
		{`'x'`, "cannot unmarshal"},
		{`{}`, "neither"},
		{`{'schemaVersion':2}`, "neither"},
		{`{'schemaVersion':2,'manifests':null}`, "neither"},
		{`<html>`, "invalid character"},
		{`{'schemaVersion':2,` + aConfig + `} trailing`, "after top-level"},
		// ambiguous
		{`{'schemaVersion':2,` + aConfig + `,'manifests':[]}`, "ambiguous"},
		{`{'schemaVersion':2,'layers':[],'manifests':[]}`, "ambiguous"},
		{`{'schemaVersion':2,'mediaType':'` + OCIIndex + `','layers':[],'manifests':[]}`, "ambiguous"},
		{`{'schemaVersion':2,'mediaType':'` + OCIIndex + `',` + aConfig + `}`, "like an image"},
		{`{'schemaVersion':2,'mediaType':'` + DockerList + `','layers':[]}`, "like an image"},
		{`{'schemaVersion':2,'mediaType':'` + OCIManifest + `','manifests':[]}`, "like an index"},
		{`{'schemaVersion':2,'mediaType':'` + DockerManifest + `','manifests':[]}`, "like an index"},
		{`{'schemaVersion':2,` + aConfig + `,'layers':[],'layers':[]}`, "twice"},
		{`{'schemaVersion':2,` + aConfig + `,'layers':[],'Layers':[]}`, "twice"},
		{`{'mediaType':'` + OCIIndex + `','mediaType':'` + OCIManifest + `',` + aConfig + `}`, "twice"},
		// of another kind
		{`{'schemaVersion':1,'fsLayers':[]}`, "schema 1"},
		{`{'schemaVersion':1,'name':'x','tag':'y'}`, "schema 1"},
		{`{'schemaVersion':2,'fsLayers':[],` + aConfig + `}`, "schema 1"},
		{`{'mediaType':'application/vnd.docker.distribution.manifest.v1+prettyjws'}`, "schema 1"},
		{`{'schemaVersion':3,` + aConfig + `}`, "schemaVersion"},
		{`{'schemaVersion':0,` + aConfig + `}`, "schemaVersion"},
		{`{'schemaVersion':2,'mediaType':'text/html',` + aConfig + `}`, "text/html"},
		{`{'schemaVersion':2,'mediaType':'application/vnd.oci.artifact.manifest.v1+json','blobs':[]}`, "artifact"},
		// malformed
		{`{'schemaVersion':2,'layers':[]}`, "without"},
		{`{'schemaVersion':2,'config':{}}`, "without a digest"},
		{`{'schemaVersion':2,'config':{'digest':'','size':1}}`, "without a digest"},
		{`{'schemaVersion':2,'config':{'digest':'sha256:abc','size':1}}`, "hexadecimal"},
		{`{'schemaVersion':2,'config':{'digest':'DIGEST','size':-1}}`, "-1 bytes"},
		{`{'schemaVersion':2,'config':{'digest':'DIGEST','size':1e30}}`, "cannot unmarshal"},
		{`{'schemaVersion':2,'config':{'digest':'DIGEST','size':99999999999999999999}}`, "cannot unmarshal"},
		{`{'schemaVersion':2,'config':{'digest':'DIGEST','size':1.5}}`, "cannot unmarshal"},
		{`{'schemaVersion':2,` + aConfig + `,'layers':[{}]}`, "layer 0"},
		{`{'schemaVersion':2,` + aConfig + `,'layers':[null]}`, "layer 0"},
		{`{'schemaVersion':2,'manifests':[` + anEntry + `,{'digest':'DIGEST','size':-5}]}`, "manifest 1"},
		{`{'schemaVersion':2,` + aConfig + `,'subject':{'digest':'md5:abc'}}`, "sha512"},
		{`{'schemaVersion':2,` + aConfig + `,'annotations':[]}`, "cannot unmarshal"},
		{`{'schemaVersion':2,'custom':` + strings.Repeat(`[`, 100_000) + `}`, "depth"},
		{`{'schemaVersion':2,'manifests':[` + many + `]}`, "descriptors"},
	} {
		body := js("%s", c.body)
		m, err := Parse(body)
		if !errors.Is(err, ErrManifest) || m != nil {
			t.Errorf("%.200s: %v, %v", body, m, err)
		} else if !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
			t.Errorf("%.200s: %.600v, want %q", body, err, c.want)
		}
	}
}

func TestOverMaxSizeIsRefusedUnread(t *testing.T) {
	pad := func(n int) []byte {
		head := js(`{'schemaVersion':2,'manifests':[],'pad':'`)
		return append(append(head, bytes.Repeat([]byte("x"), n-len(head)-2)...), `"}`...)
	}
	if m, err := Parse(pad(MaxSize)); err != nil || len(m.Body) != MaxSize {
		t.Errorf("exactly MaxSize: %v", err)
	}
	if _, err := Parse(pad(MaxSize + 1)); !errors.Is(err, ErrManifest) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestParseAsVerifiesFirst(t *testing.T) {
	body := js(`{'schemaVersion':2,'manifests':[]}`)
	h := SHA512.New()
	h.Write(body)
	for _, d := range []Digest{DigestOf(body), SHA512.Sum(h)} {
		m, err := ParseAs(d, body)
		if err != nil || m.Digest != d {
			t.Errorf("%s: %v, %v", d, m, err)
		}
		if m, err := ParseAs(d, append([]byte(" "), body...)); !errors.Is(err, ErrMismatch) || m != nil {
			t.Errorf("%s with a blank before it: %v, %v", d, m, err)
		}
	}
	if _, err := ParseAs(DigestOf([]byte("{}")), []byte("{}")); !errors.Is(err, ErrManifest) {
		t.Errorf("right bytes that are no manifest: %v", err)
	}
}

func TestDescriptors(t *testing.T) {
	var d Descriptor
	read := func(s string) Descriptor {
		d = Descriptor{}
		if err := json.Unmarshal(js("%s", s), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	const foreign = `'mediaType':'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd'`
	for _, c := range []struct {
		s                    string
		foreign, attestation bool
		length               int64
	}{
		{aLayer, false, false, 3},
		{`{'digest':'DIGEST'}`, false, false, -1},
		{`{'digest':'` + SHA512.Sum(SHA512.New()).String() + `','size':0}`, false, false, 0},
		{`{` + foreign + `,'digest':'DIGEST','size':1,'urls':['https://x.test']}`, true, false, 1},
		{`{` + foreign + `,'digest':'DIGEST','size':1}`, false, false, 1},
		{`{'mediaType':'x','digest':'DIGEST','size':1,'urls':['https://x.test']}`, false, false, 1},
		{anEntry, false, false, 4},
		{`{'digest':'DIGEST','size':1,'platform':{'os':'unknown','architecture':'unknown'}}`, false, true, 1},
		{`{'digest':'DIGEST','size':1,'annotations':{'vnd.docker.reference.type':'attestation-manifest'}}`, false, true, 1},
	} {
		d := read(c.s)
		if d.IsForeign() != c.foreign || d.IsAttestation() != c.attestation || d.Length() != c.length {
			t.Errorf("%s: foreign %v, attestation %v, length %d", c.s, d.IsForeign(), d.IsAttestation(), d.Length())
		}
	}
}

// FuzzParse: what is accepted is whole (bytes, digests, sizes, one shape), and
// distribution reads the same digests out of it as the media type that we found.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{'schemaVersion':2,` + aConfig + `,'layers':[` + aLayer + `]}`,
		`{'schemaVersion':2,'mediaType':'` + DockerManifest + `',` + aConfig + `,'layers':[` + aLayer + `]}`,
		`{'schemaVersion':2,'manifests':[` + anEntry + `]}`,
		`{'schemaVersion':2,'mediaType':'` + DockerList + `','manifests':[` + anEntry + `]}`,
		`{'schemaVersion':2,` + aConfig + `,'manifests':[]}`,
		`{'schemaVersion':1,'fsLayers':[]}`, `{}`, `null`, `[]`,
	} {
		f.Add(js("%s", s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse(body)
		if err != nil {
			if !errors.Is(err, ErrManifest) || m != nil {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		if !bytes.Equal(m.Body, body) || m.Digest.Verify(body) != nil || !IsManifestType(m.MediaType) {
			t.Fatalf("not what went in: %v", m)
		}
		if m.IsIndex() == (m.Config != nil) || m.IsIndex() && len(m.Layers) > 0 || !m.IsIndex() && len(m.Manifests) > 0 {
			t.Fatalf("of two shapes: %v", m)
		}
		all := append(m.Blobs(), m.Children()...)
		for _, d := range all {
			if _, err := ParseDigest(d.Digest.String()); err != nil || d.Size < 0 || d.Length() < -1 {
				t.Fatalf("descriptor %v: %v", d, err)
			}
		}
		theirs, _, err := distribution.UnmarshalManifest(m.MediaType, body)
		if err != nil {
			return // it is stricter about fields that we do not read
		}
		refs := theirs.References()
		if len(refs) != len(all) {
			t.Fatalf("distribution finds %d references, we %d", len(refs), len(all))
		}
		for i, r := range refs {
			if string(r.Digest) != all[i].Digest.String() || r.Size != all[i].Size || r.MediaType != all[i].MediaType {
				t.Fatalf("reference %d: distribution %v, we %v", i, r, all[i])
			}
		}
	})
}

// imageOf is an image as real ones are: n layers, annotations.
func imageOf(n int) []byte {
	layers := strings.TrimSuffix(strings.Repeat(aLayer+",", n), ",")
	return js(`{'schemaVersion':2,'mediaType':'%s',%s,'layers':[%s],'annotations':{'org.opencontainers.image.source':'https://x.test/y'}}`, OCIManifest, aConfig, layers)
}

func BenchmarkParse(b *testing.B) {
	entries := strings.TrimSuffix(strings.Repeat(anEntry+",", 16), ",")
	for _, c := range []struct {
		name string
		body []byte
	}{
		{"image of 5 layers", imageOf(5)},
		{"image of 100 layers", imageOf(100)},
		{"index of 16", js(`{'schemaVersion':2,'manifests':[%s]}`, entries)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(c.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
